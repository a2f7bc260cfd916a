package zoom

import (
	"context"
	"errors"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// startPublishing records that this process owns the statuses of this host, and reports whether the statuses of an
// earlier process still have to be taken over. A process that only reads must not take them from the running
// supervisor.
func (n *NSDB) startPublishing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.publishing = true
	return n.publishedPaths != nil
}

// takeOverOnce takes over the statuses of an earlier process, unless that was done. It fails soon if there is no
// session; the take-over is then repeated after the reconnect.
func (n *NSDB) takeOverOnce(ctx context.Context) error {
	if !n.startPublishing() {
		return nil
	}
	host, err := n.uuid()
	if err != nil {
		return err
	}
	dir := n.location.Tree.ContainerStates(host)
	client, err := n.session.awaitShortly(ctx)
	if err != nil {
		return n.fault(dir, err)
	}
	return n.runUntilDone(ctx, dir, func() error { return n.fault(dir, n.takeOver(client)) })
}

// takeOver moves the container statuses that an earlier process of this host left into this session, unchanged and once
// per process. Without that, a container whose status this process does not publish, because the container is unknown,
// would lose its status when the earlier session ends, and MidoNet's scheduler would move it to another host.
func (n *NSDB) takeOver(client *client) error {
	statuses, err := n.readEarlierStatuses(client)
	if err != nil {
		return err
	}
	_, _ = parallel(statuses, func(s *status) (struct{}, error) {
		<-s.sem
		defer func() { s.sem <- struct{}{} }()
		if err := n.writeDesired(client, s); err != nil && !connectionLost(err) && n.ctx.Err() == nil {
			n.log.Warn("status not taken over", "error", err)
		}
		return struct{}{}, nil // a failed write is repeated after a reconnect or at the next rescan
	})
	if len(statuses) > 0 {
		n.log.Info("statuses of an earlier run taken over", "count", len(statuses))
	}
	return nil
}

// readEarlierStatuses adds the statuses of an earlier process that this process has not replaced to n.statuses, and
// returns them.
func (n *NSDB) readEarlierStatuses(client *client) (statuses []*status, err error) {
	n.takeOverMu.Lock()
	defer n.takeOverMu.Unlock()
	if !n.startPublishing() {
		return nil, nil
	}
	host, err := n.uuid()
	if err != nil {
		return nil, err
	}
	dir := n.location.Tree.ContainerStates(host)
	if _, err := client.Sync(dir); err != nil && !errors.Is(err, zk.ErrNoNode) { // the server may lag behind the leader
		return nil, err
	}
	names, _, err := client.Children(dir)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, err
	}
	found, err := parallel(names, func(name string) (*status, error) { return n.readEarlierStatus(client, host, name) })
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range found {
		if s != nil && !n.publishedPaths[s.path] {
			n.statuses[s.path] = s
			statuses = append(statuses, s)
		}
	}
	n.publishedPaths = nil
	return statuses, nil
}

// readEarlierStatus reads the status of a container that an earlier process left, and returns nil if there is none to
// take over. It skips a node that no session owns, because that does not expire, and a node whose data does not name
// this host. The other data is not checked, because the node is moved unchanged.
func (n *NSDB) readEarlierStatus(client *client, host model.UUID, name string) (*status, error) {
	id, err := model.ParseUUID("containerId", name)
	if err != nil {
		return nil, nil // neither MidoNet nor this program has created it
	}
	path := n.location.Tree.ContainerState(host, id)
	data, stat, err := client.Get(path)
	switch {
	case errors.Is(err, zk.ErrNoNode): // it was removed; its parent node remains
		return nil, nil
	case errors.Is(err, zk.ErrNoAuth):
		n.log.Warn("status of an earlier run not taken over", "error", n.fault(path, err))
		return nil, nil
	case err != nil:
		return nil, err
	}
	value, _ := model.ReadContainerStatus(data)
	if !ownedByOther(client, stat) || value.HostID != spec.HostID(host) {
		return nil, nil
	}
	if serves, err := n.servesContainer(client, id); err != nil || !serves {
		return nil, err
	}
	s := newStatus(path, n.location.Tree.Object(model.ServiceContainer, id), id)
	s.code, s.data, s.takenOver = value.Code, data, spec.ContainerID(id)
	return s, nil
}

// takenOverContainers returns the containers whose status comes from an earlier process.
func (n *NSDB) takenOverContainers() (ids []spec.ContainerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.statuses {
		if s.takenOver != "" {
			ids = append(ids, s.takenOver)
		}
	}
	return ids
}

// dropTakenOver removes a status of an earlier process, because the container's object does not exist any more. It
// returns false for a status of this process.
func (n *NSDB) dropTakenOver(s *status) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.takenOver == "" {
		return false
	}
	if n.statuses[s.path] == s {
		delete(n.statuses, s.path)
	}
	return true
}
