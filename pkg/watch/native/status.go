package native

import (
	"fmt"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// StatusKey returns the key of the status that a host publishes for a container, or for itself if the container id is
// "". It checks the container id.
func StatusKey(host spec.HostID, id spec.ContainerID) (Key, error) {
	if id == "" {
		return HostStatusKey(host), nil
	}
	id, err := spec.ParseID[spec.ContainerID]("containerId", string(id))
	return ContainerStatusKey(host, id), err
}

// ContainerOfStatus returns the container of a status key of a host, and false for any other key.
func ContainerOfStatus(host spec.HostID, key Key) (spec.ContainerID, bool) {
	name, ok := strings.CutPrefix(string(key), string(ContainerStatusesKey(host))+"/")
	id, err := spec.ParseID[spec.ContainerID]("containerId", name)
	return id, ok && err == nil
}

// StatusError adds to an error which status could not be written: that of a container, or that of the host if the
// container id is "". It returns nil for nil.
func StatusError(operation string, host spec.HostID, id spec.ContainerID, err error) error {
	switch {
	case err == nil:
		return nil
	case id == "":
		return fmt.Errorf("%s status of host %s: %w", operation, host, err)
	}
	return fmt.Errorf("%s status of container %s: %w", operation, spec.Quote(string(id)), err)
}
