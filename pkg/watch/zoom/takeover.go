package zoom

import (
	"context"
	"errors"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// speak notes that the statuses of this host are this process's. Who only reads must not take them from the supervisor that
// runs. It says whether they are still to be taken over.
func (n *NSDB) speak() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.speaks = true
	return n.said != nil
}

// inherit takes over, unless it was done. In an outage it fails at once, and the return of the session does it.
func (n *NSDB) inherit(ctx context.Context) error {
	if !n.speak() {
		return nil
	}
	host, err := n.uuid()
	if err != nil {
		return err
	}
	folder := n.location.Tree.ContainerStates(host)
	client, err := n.session.awaitShortly(ctx)
	if err != nil {
		return n.fault(folder, err)
	}
	return n.within(ctx, folder, func() error { return n.fault(folder, n.takeOver(client)) })
}

// takeOver makes words of the containers' statuses that an earlier process of this host left, once in a process, and moves
// them into this session as they stand. A container that nothing is said of, an unknown one, would lose its status with
// the earlier session otherwise, and the scheduler would take it elsewhere.
func (n *NSDB) takeOver(client *client) error {
	words, err := n.takeWords(client)
	if err != nil {
		return err
	}
	_, _ = gather(words, func(s *status) (struct{}, error) {
		<-s.turn
		defer func() { s.turn <- struct{}{} }()
		if err := n.write(client, s); err != nil && !lost(err) && n.life.Err() == nil {
			n.log.Warn("status not taken over", "error", err)
		}
		return struct{}{}, nil // what is not moved now is with the other words, at the session's return or the next rescan
	})
	if len(words) > 0 {
		n.log.Info("statuses of an earlier run taken over", "count", len(words))
	}
	return nil
}

// takeWords notes the statuses of an earlier process, where this one has said nothing, and returns them.
func (n *NSDB) takeWords(client *client) (words []*status, err error) {
	n.taking.Lock()
	defer n.taking.Unlock()
	if !n.speak() {
		return nil, nil
	}
	host, err := n.uuid()
	if err != nil {
		return nil, err
	}
	folder := n.location.Tree.ContainerStates(host)
	if _, err := client.Sync(folder); err != nil && !errors.Is(err, zk.ErrNoNode) { // a server may lag behind
		return nil, err
	}
	names, _, err := client.Children(folder)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, err
	}
	left, err := gather(names, func(name string) (*status, error) { return n.left(client, host, name) })
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range left {
		if s != nil && !n.said[s.path] {
			n.statuses[s.path] = s
			words = append(words, s)
		}
	}
	n.said = nil
	return words, nil
}

// left reads what an earlier process said of a container; nil: nothing. A node that no session owns stays by itself, and
// one whose data does not name this host is not this host's. What else it says does not matter: it is moved as it stands.
func (n *NSDB) left(client *client, host model.UUID, name string) (*status, error) {
	id, err := model.ParseUUID("containerId", name)
	if err != nil {
		return nil, nil // not MidoNet's, and none of ours
	}
	path := n.location.Tree.ContainerState(host, id)
	data, stat, err := client.Get(path)
	switch {
	case errors.Is(err, zk.ErrNoNode): // it was removed meanwhile, or long ago: its folder stays
		return nil, nil
	case errors.Is(err, zk.ErrNoAuth):
		n.log.Warn("status of an earlier run not taken over", "error", n.fault(path, err))
		return nil, nil
	case err != nil:
		return nil, err
	}
	said, _ := model.ReadContainerStatus(data)
	if !foreign(client, stat) || said.HostID != spec.HostID(host) {
		return nil, nil
	}
	if serves, err := n.servesContainer(client, id); err != nil || !serves {
		return nil, err
	}
	s := newStatus(path, n.location.Tree.Object(model.ServiceContainer, id), id)
	s.code, s.data, s.taken = said.Code, data, spec.ContainerID(id)
	return s, nil
}

// taken are the containers whose status is an earlier process's word.
func (n *NSDB) taken() (ids []spec.ContainerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.statuses {
		if s.taken != "" {
			ids = append(ids, s.taken)
		}
	}
	return ids
}

// giveUp forgets an earlier process's word, since its container is gone, and says whether it was one: nobody is to be told.
func (n *NSDB) giveUp(s *status) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.taken == "" {
		return false
	}
	if n.statuses[s.path] == s {
		delete(n.statuses, s.path)
	}
	return true
}
