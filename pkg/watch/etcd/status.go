package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// PublishHost publishes the host's status.
func (n *NSDB) PublishHost(ctx context.Context, status spec.HostStatus) error {
	if err := n.publish(ctx, native.HostStatusKey(n.host), status); err != nil {
		return fmt.Errorf("publish status of host %s: %w", n.host, err)
	}
	return nil
}

// RemoveHost removes the host's status.
func (n *NSDB) RemoveHost(ctx context.Context) error {
	if err := n.publisher.set(ctx, native.HostStatusKey(n.host), nil); err != nil {
		return fmt.Errorf("remove status of host %s: %w", n.host, err)
	}
	return nil
}

// PublishContainer publishes a container's status.
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

// RemoveContainer removes a container's status.
func (n *NSDB) RemoveContainer(ctx context.Context, id spec.ContainerID) error {
	key, err := n.containerKey(id)
	if err == nil {
		err = n.publisher.set(ctx, key, nil)
	}
	if err != nil {
		return fmt.Errorf("remove status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// Published lists the containers that have a status of this host, sorted. Statuses of an earlier process are first
// moved to the lease of this one, so that they do not expire.
func (n *NSDB) Published(ctx context.Context) ([]spec.ContainerID, error) {
	var ids []spec.ContainerID
	err := n.publisher.prepare(ctx)
	if err == nil {
		var revision int64
		err = n.readPages(ctx, native.ContainerStatusesKey(n.host), &revision, func(kv *mvccpb.KeyValue) {
			if id, ok := n.containerOfStatus(n.key(kv.Key)); ok {
				ids = append(ids, id)
			}
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list statuses of host %s: %w", n.host, err)
	}
	slices.Sort(ids)
	return ids, nil
}

// containerOfStatus returns the container of a status key of this host, and false for any other key.
func (n *NSDB) containerOfStatus(key native.Key) (spec.ContainerID, bool) {
	name, ok := strings.CutPrefix(string(key), string(native.ContainerStatusesKey(n.host))+"/")
	id, err := spec.ParseID[spec.ContainerID]("containerId", name)
	return id, ok && err == nil
}

func (n *NSDB) containerKey(id spec.ContainerID) (native.Key, error) {
	id, err := spec.ParseID[spec.ContainerID]("containerId", string(id))
	return native.ContainerStatusKey(n.host, id), err
}

func (n *NSDB) publish(ctx context.Context, key native.Key, status any) error {
	var value bytes.Buffer
	encoder := json.NewEncoder(&value)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(status); err != nil {
		return err
	}
	return n.publisher.set(ctx, key, bytes.TrimRight(value.Bytes(), "\n"))
}
