package zoom

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// ListStatuses lists the containers that have a status of this host. A status has a value if it must be put again,
// because it belongs to the session of an earlier process of this host. Without that, a container whose status this
// process does not put, because the container is unknown, would lose its status when the earlier session ends, and
// MidoNet's scheduler would move it to another host. The status of the host is not listed.
func (w *statusWriter) ListStatuses(ctx context.Context) (map[spec.ContainerID][]byte, error) {
	host, err := hostUUID(w.host)
	if err != nil {
		return nil, fmt.Errorf("list statuses: %w", err)
	}
	dir := w.conn.location.Tree.ContainerStates(host)
	var listed map[spec.ContainerID][]byte
	client, err := w.conn.session.awaitShortly(ctx)
	if err == nil {
		err = w.conn.runUntilDone(ctx, dir, func() (err error) {
			listed, err = w.readStatuses(client, host)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list statuses of host %s: %w", host, w.conn.fault(dir, err))
	}
	return listed, nil
}

// readStatuses reads the statuses of the containers of a host.
func (w *statusWriter) readStatuses(client *client, host model.UUID) (map[spec.ContainerID][]byte, error) {
	dir := w.conn.location.Tree.ContainerStates(host)
	if _, err := client.Sync(dir); err != nil && !errors.Is(err, zk.ErrNoNode) { // the server may lag behind the leader
		return nil, err
	}
	names, _, err := client.Children(dir)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, err
	}
	type status struct {
		listed bool
		value  []byte
	}
	statuses, err := parallel(names, func(name string) (s status, err error) {
		id, err := model.ParseUUID("containerId", name)
		if err != nil {
			return s, nil // neither MidoNet nor this program has created it
		}
		s.listed, s.value, err = w.readStatus(client, host, id)
		return s, err
	})
	listed := map[spec.ContainerID][]byte{}
	for i, s := range statuses {
		if s.listed {
			listed[spec.ContainerID(names[i])] = s.value
		}
	}
	return listed, err
}

// readStatus reports whether a container has a status that this supervisor publishes. value is its data if an earlier
// process of this host has written it. It is nil for a node that no session owns, because that does not expire, and for
// a node whose data does not name this host. The other data is not checked, because the node is put unchanged.
func (w *statusWriter) readStatus(client *client, host, id model.UUID) (exists bool, value []byte, err error) {
	path := w.conn.location.Tree.ContainerState(host, id)
	data, stat, err := client.Get(path)
	switch {
	case errors.Is(err, zk.ErrNoNode): // it was removed; its parent node remains
		return false, nil, nil
	case errors.Is(err, zk.ErrNoAuth):
		w.conn.log.Warn("status of an earlier run not taken over", "error", w.conn.fault(path, err))
		exists, err := w.servesContainer(client, id)
		return exists, nil, err
	case err != nil:
		return false, nil, err
	case !ownedByOther(client, stat):
		return true, nil, nil
	}
	if exists, err = w.servesContainer(client, id); err != nil || !exists {
		return false, nil, err
	}
	if earlier, _ := model.ReadContainerStatus(data); earlier.HostID == spec.HostID(host) {
		value = data
	}
	return true, value, nil
}
