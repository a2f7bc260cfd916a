package zoom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// tries is how often a write is begun anew because the node changed between the look and the write.
const tries = 10

// status is what is to stand at one path. Whoever holds the turn writes it, and always what is wanted then: a word that
// comes later never stands under one that came before it.
type status struct {
	path      string
	object    string     // the model object without which it must not stand
	container model.UUID // "": the host
	code      spec.StatusCode
	data      []byte           // nil: nothing is to stand there
	taken     spec.ContainerID // whose status it is, while an earlier process said it and this one nothing else
	turn      chan struct{}    // holds one token: the right to write
}

func newStatus(path, object string, container model.UUID) *status {
	s := &status{path: path, object: object, container: container, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// PublishHost writes the host's weight, quota and count, without which the scheduler takes every container from it.
func (n *NSDB) PublishHost(ctx context.Context, said spec.HostStatus) error {
	host, err := n.uuid()
	switch {
	case err != nil:
	case n.location.LeaveContainer: // the containers' statuses are ours all the same
		err = n.inherit(ctx)
	default:
		tree := n.location.Tree
		err = n.publish(ctx, newStatus(tree.HostState(host), tree.Object(model.Host, host), ""), "", model.PrintHostStatus(said))
	}
	if err != nil {
		return fmt.Errorf("publish status of host %s: %w", spec.Quote(string(n.host)), err)
	}
	return nil
}

// RemoveHost removes the host's node, unless it is left to the agent. The scheduler then takes every container from the host.
func (n *NSDB) RemoveHost(ctx context.Context) error {
	host, err := n.uuid()
	if err == nil && !n.location.LeaveContainer {
		tree := n.location.Tree
		err = n.publish(ctx, newStatus(tree.HostState(host), tree.Object(model.Host, host), ""), "", nil)
	}
	if err != nil {
		return fmt.Errorf("remove status of host %s: %w", spec.Quote(string(n.host)), err)
	}
	return nil
}

// PublishContainer writes a container's status.
func (n *NSDB) PublishContainer(ctx context.Context, id spec.ContainerID, said spec.ContainerStatus) error {
	s, err := n.containerStatus(id)
	var data []byte
	if err == nil {
		data, err = model.PrintContainerStatus(said)
	}
	if err == nil {
		err = n.publish(ctx, s, said.Code, data)
	}
	if err != nil {
		return fmt.Errorf("publish status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// RemoveContainer removes a container's status of this host, whichever session wrote it (but see ServeOnly).
func (n *NSDB) RemoveContainer(ctx context.Context, id spec.ContainerID) error {
	s, err := n.containerStatus(id)
	if err == nil {
		err = n.publish(ctx, s, "", nil)
	}
	if err != nil {
		return fmt.Errorf("remove status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// Published lists the containers that have a status of this host. What an earlier process left belongs to this one then,
// and so does not go away by itself; it is listed also while it does not stand, since it will again.
func (n *NSDB) Published(ctx context.Context) ([]spec.ContainerID, error) {
	host, err := n.uuid()
	if err != nil {
		return nil, fmt.Errorf("list statuses: %w", err)
	}
	tree := n.location.Tree
	folder := tree.ContainerStates(host)
	n.speak()
	ids, err := ask(ctx, n, func(c *client) ([]spec.ContainerID, error) {
		if err := n.takeOver(c); err != nil {
			return nil, err
		}
		names, _, err := c.Children(folder)
		if errors.Is(err, zk.ErrNoNode) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		stands, err := gather(names, func(name string) (bool, error) {
			id, err := model.ParseUUID("containerId", name)
			if err != nil {
				return false, nil // not MidoNet's, and none of ours
			}
			stands, stat, err := c.Exists(tree.ContainerState(host, id))
			if err != nil || !stands || !foreign(c, stat) {
				return stands, err
			}
			return n.servesContainer(c, id)
		})
		var ids []spec.ContainerID
		for i, name := range names {
			if stands[i] {
				ids = append(ids, spec.ContainerID(name))
			}
		}
		return ids, err
	})
	if err != nil {
		return nil, fmt.Errorf("list statuses of host %s: %w", host, n.fault(folder, err))
	}
	ids = append(ids, n.taken()...)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// containerStatus makes the status of a container of this host.
func (n *NSDB) containerStatus(id spec.ContainerID) (*status, error) {
	host, err := n.uuid()
	if err != nil {
		return nil, err
	}
	container, err := model.ParseUUID("container id", id)
	if err != nil {
		return nil, err
	}
	tree := n.location.Tree
	return newStatus(tree.ContainerState(host, container), tree.Object(model.ServiceContainer, container), container), nil
}

// publish notes what is to stand at a path and sees to it that it does. A word that cannot be written now is written when
// there is a session again, unless another has taken its place by then.
func (n *NSDB) publish(ctx context.Context, s *status, code spec.StatusCode, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.mu.Lock()
	if known := n.statuses[s.path]; known != nil {
		s = known
	}
	n.statuses[s.path] = s
	s.code, s.data, s.taken = code, data, ""
	if n.said != nil {
		n.said[s.path] = true
	}
	n.mu.Unlock()
	err := n.settle(ctx, s)
	if taking := n.inherit(ctx); err == nil {
		err = taking
	}
	return err
}

// settle makes what stands at a path what is wanted. It returns when ctx ends; the write that is under way then goes on
// and keeps its turn.
func (n *NSDB) settle(ctx context.Context, s *status) error {
	client, err := n.session.awaitShortly(ctx)
	if err != nil {
		return n.fault(s.path, err)
	}
	select {
	case <-ctx.Done():
		return n.fault(s.path, n.session.why(ctx))
	case <-s.turn:
	}
	return n.within(ctx, s.path, func() error {
		defer func() { s.turn <- struct{}{} }()
		return n.write(client, s)
	})
}

// within does what is about a path, and returns with it or when ctx ends; it then goes on.
func (n *NSDB) within(ctx context.Context, path string, do func() error) error {
	done := make(chan error, 1)
	n.running.Go(func() { done <- do() })
	select {
	case <-ctx.Done():
		return n.fault(path, n.session.why(ctx))
	case err := <-done:
		return err
	}
}

// write writes what is wanted at a path, in its turn.
func (n *NSDB) write(client *client, s *status) error {
	var err error
	for range tries {
		n.mu.Lock()
		data := s.data
		n.mu.Unlock()
		path := s.path
		if data == nil {
			err = n.clear(client, s)
		} else {
			n.session.publishes()
			path, err = n.stand(client, s, data)
		}
		if errors.Is(err, errLeft) {
			n.log.Debug("status left to another client", "path", s.path)
			err = nil
		}
		if err == nil && n.forget(s, data) || errors.Is(err, fs.ErrNotExist) && n.giveUp(s) {
			return nil
		}
		if err != nil && !raced(err) || errors.Is(err, fs.ErrNotExist) {
			return n.fault(path, err)
		}
	}
	return n.fault(s.path, err)
}

// forget says whether what was written is still what is wanted, and then forgets a status that is to stand nowhere.
func (n *NSDB) forget(s *status, written []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if (s.data == nil) != (written == nil) || !bytes.Equal(s.data, written) {
		return false
	}
	if s.data == nil && n.statuses[s.path] == s {
		delete(n.statuses, s.path)
	}
	return true
}

// errLeft says that the status of a container is another client's.
var errLeft = errors.New("the status is another client's")

// foreign reports whether another session owns a node.
func foreign(client *client, stat *zk.Stat) bool {
	return stat.EphemeralOwner != 0 && stat.EphemeralOwner != client.id
}

// leave returns errLeft for the status of a container that another client answers for.
func (n *NSDB) leave(client *client, s *status) error {
	if s.container == "" {
		return nil
	}
	serves, err := n.servesContainer(client, s.container)
	if err == nil && !serves {
		err = errLeft
	}
	return err
}

// clear removes a node, if it is there.
func (n *NSDB) clear(client *client, s *status) error {
	there, stat, err := client.Exists(s.path)
	if err != nil || !there {
		return err
	}
	if foreign(client, stat) {
		if err := n.leave(client, s); err != nil {
			return err
		}
	}
	if err := client.Delete(s.path, stat.Version); !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	return nil
}

// stand makes an ephemeral node of this session stand at a path, if none with that data does. A node of another session is
// deleted and made in one multi, which also holds that the object is there: a reader never sees the node absent, and none
// is left for an object that is gone. It returns the path that an error is about.
func (n *NSDB) stand(client *client, s *status, data []byte) (string, error) {
	stands, stat, err := client.Get(s.path)
	switch {
	case err == nil && stat.EphemeralOwner == client.id && bytes.Equal(stands, data):
		return s.path, nil
	case err == nil && stat.EphemeralOwner == client.id:
		_, err := client.Set(s.path, data, stat.Version)
		return s.path, err
	case err != nil && !errors.Is(err, zk.ErrNoNode):
		return s.path, err
	}
	absent := err != nil
	if absent && n.location.LeaveContainer || !absent && foreign(client, stat) {
		if err := n.leave(client, s); err != nil {
			return s.object, err
		}
	}
	operations := []any{&zk.CheckVersionRequest{Path: s.object, Version: -1}}
	if !absent {
		operations = append(operations, &zk.DeleteRequest{Path: s.path, Version: stat.Version})
	}
	operations = append(operations, &zk.CreateRequest{Path: s.path, Data: data, Acl: everybody, Flags: zk.FlagEphemeral})
	answers, err := client.Multi(operations...)
	if !errors.Is(err, zk.ErrNoNode) {
		return s.path, err
	}
	if len(answers) > 0 && errors.Is(answers[0].Error, zk.ErrNoNode) {
		return s.object, &saying{"no such object: its status can stand only beside it", fs.ErrNotExist}
	}
	if err := makeParents(client, s.path); err != nil {
		return s.path, err
	}
	return s.path, zk.ErrNoNode // raced, or its parents were missing: look again
}

// everybody is the ACL of every node of MidoNet's.
var everybody = zk.WorldACL(zk.PermAll)

// makeParents makes the persistent nodes above a path that are missing, from the lowest that is there.
func makeParents(client *client, path string) error {
	var missing []string
	for parent := path; ; {
		parent = parent[:strings.LastIndexByte(parent, '/')]
		if parent == "" {
			break
		}
		there, _, err := client.Exists(parent)
		if err != nil {
			return err
		}
		if there {
			break
		}
		missing = append(missing, parent)
	}
	for _, parent := range slices.Backward(missing) {
		if _, err := client.Create(parent, nil, 0, everybody); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return nil
}

// republish writes every status that does not stand as it is to: after the connection has come back, at once. The host's
// own comes first, since without it the scheduler takes all containers away, then the containers that run. A take-over that
// failed is done at the end.
func (n *NSDB) republish() {
	ctx, cancel := context.WithTimeout(n.life, n.location.SessionTimeout)
	defer cancel()
	n.mu.Lock()
	speaks := n.speaks
	var host, running, others []*status
	for _, s := range n.statuses {
		switch {
		case s.code == spec.Running:
			running = append(running, s)
		case s.code == "" && s.data != nil:
			host = append(host, s)
		default:
			others = append(others, s)
		}
	}
	n.mu.Unlock()
	begun := time.Now()
	for _, some := range [][]*status{host, running, others} {
		_, _ = gather(some, func(s *status) (struct{}, error) {
			if err := n.settle(ctx, s); err != nil && !lost(err) && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
				n.log.Warn("status not published", "error", err)
			}
			return struct{}{}, nil
		})
	}
	if total := len(host) + len(running) + len(others); total > 0 {
		n.log.Debug("statuses looked after", "count", total, "took", time.Since(begun).Round(time.Millisecond))
	}
	if !speaks {
		return
	}
	if err := n.inherit(ctx); err != nil && !lost(err) && ctx.Err() == nil {
		n.log.Warn("statuses of an earlier run not taken over", "error", err)
	}
}
