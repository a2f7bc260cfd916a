package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// PublishHost writes the status of the host.
func (n *NSDB) PublishHost(ctx context.Context, status spec.HostStatus) error {
	if err := n.publish(ctx, native.HostStatusKey(n.host), status); err != nil {
		return fmt.Errorf("publish status of host %s: %w", n.host, err)
	}
	return nil
}

// RemoveHost removes the status of the host. It succeeds if there is no status.
func (n *NSDB) RemoveHost(ctx context.Context) error {
	if err := n.remove(ctx, native.HostStatusKey(n.host)); err != nil {
		return fmt.Errorf("remove status of host %s: %w", n.host, err)
	}
	return nil
}

// PublishContainer writes the status of a container.
func (n *NSDB) PublishContainer(ctx context.Context, id spec.ContainerID, status spec.ContainerStatus) error {
	key, err := n.containerKey(id)
	if err == nil {
		err = n.publish(ctx, key, status)
	}
	if err != nil {
		return fmt.Errorf("publish status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// RemoveContainer removes the status of a container. It succeeds if there is no status.
func (n *NSDB) RemoveContainer(ctx context.Context, id spec.ContainerID) error {
	key, err := n.containerKey(id)
	if err == nil {
		err = n.remove(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("remove status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// remove removes the status of a key. It succeeds if there is no status.
func (n *NSDB) remove(ctx context.Context, key native.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.statusMu.Lock()
	defer n.statusMu.Unlock()
	if err := os.Remove(n.statusPath(key)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Published lists the containers that have a status published by this host, sorted.
func (n *NSDB) Published(ctx context.Context) (ids []spec.ContainerID, err error) {
	entries, err := os.ReadDir(n.keyPath(native.ContainerStatusesKey(n.host)))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list statuses of host %s: %w", n.host, err)
	}
	for _, entry := range entries { // sorted by name, so the ids are sorted, too
		name, isStatus := strings.CutSuffix(entry.Name(), statusExtension)
		id, err := spec.ParseID[spec.ContainerID]("containerId", name)
		if isStatus && err == nil && entry.Type().IsRegular() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

const statusExtension = ".json"

// keyPath returns the path of a status key without the extension. The status directory replaces the first part of the
// key.
func (n *NSDB) keyPath(key native.Key) string {
	return filepath.Join(n.location.Status, strings.TrimPrefix(string(key), native.Status+"/"))
}

func (n *NSDB) statusPath(key native.Key) string { return n.keyPath(key) + statusExtension }

func (n *NSDB) containerKey(id spec.ContainerID) (native.Key, error) {
	id, err := spec.ParseID[spec.ContainerID]("containerId", string(id))
	return native.ContainerStatusKey(n.host, id), err
}

// publish replaces the file of a status in one step if its content differs. It does not sync the file: the default
// directory is in memory, a status is meaningless after the machine went down, and a file that a power failure left
// empty differs from the next status, so publish replaces it.
func (n *NSDB) publish(ctx context.Context, key native.Key, status any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	value, err := jsonform.MarshalIndent(status)
	if err != nil {
		return err
	}
	value = append(value, '\n')
	n.statusMu.Lock()
	defer n.statusMu.Unlock()
	path := n.statusPath(key)
	// A crash leaves at most this file for each status. It is removed even if the status has not changed.
	temporary := "." + filepath.Base(path) + ".tmp"
	err = os.Remove(filepath.Join(filepath.Dir(path), temporary))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if stat, err := os.Lstat(path); err == nil && stat.Mode().IsRegular() { // reading a pipe would block
		if published, err := os.ReadFile(path); err == nil && bytes.Equal(published, value) {
			return nil
		}
	}
	if err := mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return atomicfile.Write(path, value, atomicfile.Options{Temporary: temporary, Mode: 0o644})
}

// mkdirAll creates a directory and its missing parents with mode 0755, regardless of the umask.
func mkdirAll(path string) error {
	switch stat, err := os.Stat(path); {
	case err == nil && stat.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, 0o755)
}
