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

// writeAttempts limits how often a write is repeated because the node has changed since it was read.
const writeAttempts = 10

// status is the desired status of one path. Whoever takes the token of sem writes the current value of data, so an
// older value never overwrites a newer one.
type status struct {
	path      string
	object    string     // without this object the status must not exist
	container model.UUID // "" for the status of the host
	code      spec.StatusCode
	data      []byte           // nil: the node must not exist
	takenOver spec.ContainerID // the container if data comes from an earlier process; "" once this one has published
	sem       chan struct{}    // holds one token, the right to write
}

func newStatus(path, object string, container model.UUID) *status {
	s := &status{path: path, object: object, container: container, sem: make(chan struct{}, 1)}
	s.sem <- struct{}{}
	return s
}

// PublishHost publishes the host's weight, quota and count. Without this status MidoNet's scheduler moves all
// containers away from the host.
func (n *NSDB) PublishHost(ctx context.Context, value spec.HostStatus) error {
	host, err := n.uuid()
	switch {
	case err != nil:
	case n.location.LeaveContainer: // the statuses of the containers are still taken over
		err = n.takeOverOnce(ctx)
	default:
		tree := n.location.Tree
		s := newStatus(tree.HostState(host), tree.Object(model.Host, host), "")
		err = n.publish(ctx, s, "", model.PrintHostStatus(value))
	}
	if err != nil {
		return fmt.Errorf("publish status of host %s: %w", spec.Quote(string(n.host)), err)
	}
	return nil
}

// RemoveHost removes the host's status, unless that is left to the agent. MidoNet's scheduler then moves all containers
// away from the host.
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

// PublishContainer publishes a container's status.
func (n *NSDB) PublishContainer(ctx context.Context, id spec.ContainerID, value spec.ContainerStatus) error {
	s, err := n.containerStatus(id)
	var data []byte
	if err == nil {
		data, err = model.PrintContainerStatus(value)
	}
	if err == nil {
		err = n.publish(ctx, s, value.Code, data)
	}
	if err != nil {
		return fmt.Errorf("publish status of container %s: %w", spec.Quote(string(id)), err)
	}
	return nil
}

// RemoveContainer removes a container's status of this host, even if another session has written it; see ServeOnly for
// the exception.
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

// Published lists the containers that have a status of this host, sorted. Statuses of an earlier process are taken over
// first, so that they do not expire. The list includes statuses that are not written at the moment and will be written
// again.
func (n *NSDB) Published(ctx context.Context) ([]spec.ContainerID, error) {
	host, err := n.uuid()
	if err != nil {
		return nil, fmt.Errorf("list statuses: %w", err)
	}
	tree := n.location.Tree
	dir := tree.ContainerStates(host)
	n.startPublishing()
	ids, err := runInSession(ctx, n, func(c *client) ([]spec.ContainerID, error) {
		if err := n.takeOver(c); err != nil {
			return nil, err
		}
		names, _, err := c.Children(dir)
		if errors.Is(err, zk.ErrNoNode) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		listed, err := parallel(names, func(name string) (bool, error) {
			id, err := model.ParseUUID("containerId", name)
			if err != nil {
				return false, nil // neither MidoNet nor this program has created it
			}
			exists, stat, err := c.Exists(tree.ContainerState(host, id))
			if err != nil || !exists || !ownedByOther(c, stat) {
				return exists, err
			}
			return n.servesContainer(c, id)
		})
		var ids []spec.ContainerID
		for i, name := range names {
			if listed[i] {
				ids = append(ids, spec.ContainerID(name))
			}
		}
		return ids, err
	})
	if err != nil {
		return nil, fmt.Errorf("list statuses of host %s: %w", host, n.fault(dir, err))
	}
	ids = append(ids, n.takenOverContainers()...)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// containerStatus returns a new status of a container of this host.
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

// publish sets the desired data of a status and writes it. If that fails for lack of a session, it is written when
// there is a session again, unless it was replaced by then.
func (n *NSDB) publish(ctx context.Context, s *status, code spec.StatusCode, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.mu.Lock()
	if known := n.statuses[s.path]; known != nil {
		s = known
	}
	n.statuses[s.path] = s
	s.code, s.data, s.takenOver = code, data, ""
	if n.publishedPaths != nil {
		n.publishedPaths[s.path] = true
	}
	n.mu.Unlock()
	err := n.writeStatus(ctx, s)
	if takeOverErr := n.takeOverOnce(ctx); err == nil {
		err = takeOverErr
	}
	return err
}

// writeStatus makes the node of a status equal to its desired data. It returns when ctx ends; a write that was started
// then continues and keeps the token.
func (n *NSDB) writeStatus(ctx context.Context, s *status) error {
	client, err := n.session.awaitShortly(ctx)
	if err != nil {
		return n.fault(s.path, err)
	}
	select {
	case <-ctx.Done():
		return n.fault(s.path, n.session.waitError(ctx))
	case <-s.sem:
	}
	return n.runUntilDone(ctx, s.path, func() error {
		defer func() { s.sem <- struct{}{} }()
		return n.writeDesired(client, s)
	})
}

// runUntilDone runs a function in a goroutine. It returns the function's error, or an error about path when ctx ends.
// The function then continues.
func (n *NSDB) runUntilDone(ctx context.Context, path string, do func() error) error {
	done := make(chan error, 1)
	n.goroutines.Go(func() { done <- do() })
	select {
	case <-ctx.Done():
		return n.fault(path, n.session.waitError(ctx))
	case err := <-done:
		return err
	}
}

// writeDesired writes the desired data of a status. The caller holds the token of s.sem.
func (n *NSDB) writeDesired(client *client, s *status) error {
	var err error
	for range writeAttempts {
		n.mu.Lock()
		data := s.data
		n.mu.Unlock()
		path := s.path
		if data == nil {
			err = n.deleteNode(client, s)
		} else {
			n.session.setPublished()
			path, err = n.ensureNode(client, s, data)
		}
		if errors.Is(err, errNotServed) {
			n.log.Debug("status left to another client", "path", s.path)
			err = nil
		}
		if err == nil && n.stillDesired(s, data) || errors.Is(err, fs.ErrNotExist) && n.dropTakenOver(s) {
			return nil
		}
		if err != nil && !isConflict(err) || errors.Is(err, fs.ErrNotExist) {
			return n.fault(path, err)
		}
	}
	return n.fault(s.path, err)
}

// stillDesired reports whether the written data is still the desired data. If so, it removes the entry of a deleted
// status.
func (n *NSDB) stillDesired(s *status, written []byte) bool {
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

// errNotServed means that another client is responsible for the status of a container.
var errNotServed = errors.New("the status is another client's")

// ownedByOther reports whether another session owns a node.
func ownedByOther(client *client, stat *zk.Stat) bool {
	return stat.EphemeralOwner != 0 && stat.EphemeralOwner != client.id
}

// checkServed returns errNotServed if another client is responsible for the status.
func (n *NSDB) checkServed(client *client, s *status) error {
	if s.container == "" {
		return nil
	}
	serves, err := n.servesContainer(client, s.container)
	if err == nil && !serves {
		err = errNotServed
	}
	return err
}

// deleteNode deletes the node of a status if it exists.
func (n *NSDB) deleteNode(client *client, s *status) error {
	exists, stat, err := client.Exists(s.path)
	if err != nil || !exists {
		return err
	}
	if ownedByOther(client, stat) {
		if err := n.checkServed(client, s); err != nil {
			return err
		}
	}
	if err := client.Delete(s.path, stat.Version); !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	return nil
}

// ensureNode makes sure that the node of a status has the given data and belongs to this session. A node of another
// session is deleted and created in one multi request, so that readers never see it absent. The request also checks
// that the object exists, so that no status is left for a removed object. ensureNode returns the path that the error is
// about.
func (n *NSDB) ensureNode(client *client, s *status, data []byte) (string, error) {
	current, stat, err := client.Get(s.path)
	switch {
	case err == nil && stat.EphemeralOwner == client.id && bytes.Equal(current, data):
		return s.path, nil
	case err == nil && stat.EphemeralOwner == client.id:
		_, err := client.Set(s.path, data, stat.Version)
		return s.path, err
	case err != nil && !errors.Is(err, zk.ErrNoNode):
		return s.path, err
	}
	absent := err != nil
	if absent && n.location.LeaveContainer || !absent && ownedByOther(client, stat) {
		if err := n.checkServed(client, s); err != nil {
			return s.object, err
		}
	}
	operations := []any{&zk.CheckVersionRequest{Path: s.object, Version: -1}}
	if !absent {
		operations = append(operations, &zk.DeleteRequest{Path: s.path, Version: stat.Version})
	}
	create := &zk.CreateRequest{Path: s.path, Data: data, Acl: worldACL, Flags: zk.FlagEphemeral}
	operations = append(operations, create)
	results, err := client.Multi(operations...)
	if !errors.Is(err, zk.ErrNoNode) {
		return s.path, err
	}
	if len(results) > 0 && errors.Is(results[0].Error, zk.ErrNoNode) {
		return s.object, &messageError{"no such object: a status can exist only for an existing object", fs.ErrNotExist}
	}
	if err := makeParents(client, s.path); err != nil {
		return s.path, err
	}
	return s.path, zk.ErrNoNode // the node was deleted meanwhile, or its parents were missing: try again
}

// worldACL is the ACL of all nodes of MidoNet.
var worldACL = zk.WorldACL(zk.PermAll)

// makeParents creates the missing persistent nodes above a path.
func makeParents(client *client, path string) error {
	var missing []string
	for parent := path; ; {
		parent = parent[:strings.LastIndexByte(parent, '/')]
		if parent == "" {
			break
		}
		exists, _, err := client.Exists(parent)
		if err != nil {
			return err
		}
		if exists {
			break
		}
		missing = append(missing, parent)
	}
	for _, parent := range slices.Backward(missing) {
		if _, err := client.Create(parent, nil, 0, worldACL); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return nil
}

// republish writes all statuses whose node differs, immediately after a reconnect and at every rescan. The host's
// status comes first, because without it MidoNet's scheduler moves all containers away. The statuses of running
// containers follow. At the end, a take-over that has failed is repeated.
func (n *NSDB) republish() {
	ctx, cancel := context.WithTimeout(n.ctx, n.location.SessionTimeout)
	defer cancel()
	n.mu.Lock()
	publishing := n.publishing
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
	start := time.Now()
	for _, group := range [][]*status{host, running, others} {
		_, _ = parallel(group, func(s *status) (struct{}, error) {
			err := n.writeStatus(ctx, s)
			if err != nil && !connectionLost(err) && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
				n.log.Warn("status not published", "error", err)
			}
			return struct{}{}, nil
		})
	}
	if total := len(host) + len(running) + len(others); total > 0 {
		n.log.Debug("statuses checked", "count", total, "took", time.Since(start).Round(time.Millisecond))
	}
	if !publishing {
		return
	}
	if err := n.takeOverOnce(ctx); err != nil && !connectionLost(err) && ctx.Err() == nil {
		n.log.Warn("statuses of an earlier run not taken over", "error", err)
	}
}
