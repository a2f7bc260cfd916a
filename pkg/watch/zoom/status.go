package zoom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// writeAttempts limits how often a write is repeated because the node has changed since it was read.
const writeAttempts = 10

// statusNode is the node of a status.
type statusNode struct {
	path      string
	object    string     // without this object the status must not exist
	container model.UUID // "" for the status of the host
}

// EncodeHost returns the data of the node of a host's status.
func (n *NSDB) EncodeHost(status spec.HostStatus) ([]byte, error) {
	return model.PrintHostStatus(status), nil
}

// EncodeContainer returns the data of the node of a container's status.
func (n *NSDB) EncodeContainer(status spec.ContainerStatus) ([]byte, error) {
	return model.PrintContainerStatus(status)
}

// PutStatus makes sure that the node of a status has the given data and belongs to the current session. It fails soon
// if there is no session. The id "" stands for the host, whose status may be left to the agent; without that status
// MidoNet's scheduler moves all containers away from the host. If the object of the container or of the host does not
// exist, errors.Is(err, publish.ErrNoObject) holds.
func (n *NSDB) PutStatus(ctx context.Context, id spec.ContainerID, value []byte) error {
	node, err := n.statusNode(id)
	if err == nil && !n.leftToAgent(id) {
		err = n.writeNode(ctx, node, func(c *client) (string, error) { return n.ensureNode(c, node, value) })
	}
	if err != nil {
		return fmt.Errorf("publish status of %s: %w", n.owner(id), err)
	}
	return nil
}

// DeleteStatus deletes the node of a status, even if another session has written it; see ServeOnly for the exception.
// It succeeds if there is no node. The id "" stands for the host, whose status may be left to the agent.
func (n *NSDB) DeleteStatus(ctx context.Context, id spec.ContainerID) error {
	node, err := n.statusNode(id)
	if err == nil && !n.leftToAgent(id) {
		err = n.writeNode(ctx, node, func(c *client) (string, error) { return node.path, n.deleteNode(c, node) })
	}
	if err != nil {
		return fmt.Errorf("remove status of %s: %w", n.owner(id), err)
	}
	return nil
}

// leftToAgent reports whether an id is that of the host, and the agent writes the host's status.
func (n *NSDB) leftToAgent(id spec.ContainerID) bool { return id == "" && n.location.LeaveContainer }

// owner returns the owner of a status for an error text.
func (n *NSDB) owner(id spec.ContainerID) string {
	if id == "" {
		return "host " + spec.Quote(string(n.host))
	}
	return "container " + spec.Quote(string(id))
}

// statusNode returns the node of the status of a container, or of the host if the id is "".
func (n *NSDB) statusNode(id spec.ContainerID) (statusNode, error) {
	host, err := n.uuid()
	if err != nil {
		return statusNode{}, err
	}
	tree := n.location.Tree
	if id == "" {
		return statusNode{tree.HostState(host), tree.Object(model.Host, host), ""}, nil
	}
	container, err := model.ParseUUID("container id", id)
	if err != nil {
		return statusNode{}, err
	}
	return statusNode{tree.ContainerState(host, container), tree.Object(model.ServiceContainer, container), container}, nil
}

// SessionChanged returns a channel that receives a value after each (re)connect and at each rescan. Then statuses may
// be missing, because their session has expired or another client has deleted them.
func (n *NSDB) SessionChanged() <-chan struct{} { return n.sessionChanged }

func (n *NSDB) notifySessionChanged() {
	select {
	case n.sessionChanged <- struct{}{}:
	default:
	}
}

// ListStatuses lists the containers that have a status of this host. A status has a value if it must be put again,
// because it belongs to the session of an earlier process of this host. Without that, a container whose status this
// process does not put, because the container is unknown, would lose its status when the earlier session ends, and
// MidoNet's scheduler would move it to another host. The status of the host is not listed.
func (n *NSDB) ListStatuses(ctx context.Context) (map[spec.ContainerID][]byte, error) {
	host, err := n.uuid()
	if err != nil {
		return nil, fmt.Errorf("list statuses: %w", err)
	}
	dir := n.location.Tree.ContainerStates(host)
	var listed map[spec.ContainerID][]byte
	client, err := n.session.awaitShortly(ctx)
	if err == nil {
		err = n.runUntilDone(ctx, dir, func() (err error) {
			listed, err = n.readStatuses(client, host)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list statuses of host %s: %w", host, n.fault(dir, err))
	}
	return listed, nil
}

// readStatuses reads the statuses of the containers of a host.
func (n *NSDB) readStatuses(client *client, host model.UUID) (map[spec.ContainerID][]byte, error) {
	dir := n.location.Tree.ContainerStates(host)
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
		s.listed, s.value, err = n.readStatus(client, host, id)
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
func (n *NSDB) readStatus(client *client, host, id model.UUID) (exists bool, value []byte, err error) {
	path := n.location.Tree.ContainerState(host, id)
	data, stat, err := client.Get(path)
	switch {
	case errors.Is(err, zk.ErrNoNode): // it was removed; its parent node remains
		return false, nil, nil
	case errors.Is(err, zk.ErrNoAuth):
		n.log.Warn("status of an earlier run not taken over", "error", n.fault(path, err))
		exists, err := n.servesContainer(client, id)
		return exists, nil, err
	case err != nil:
		return false, nil, err
	case !ownedByOther(client, stat):
		return true, nil, nil
	}
	if exists, err = n.servesContainer(client, id); err != nil || !exists {
		return false, nil, err
	}
	if earlier, _ := model.ReadContainerStatus(data); earlier.HostID == spec.HostID(host) {
		value = data
	}
	return true, value, nil
}

// writeNode makes one change of a status node in the current session. operation returns the path that its error is
// about. It is repeated if the node has changed since it was read.
//
// The client library cannot cancel a request. Therefore writeNode returns when ctx ends, and the request continues, but
// a later change of the same node waits for it. So an older status never overwrites a newer one.
func (n *NSDB) writeNode(ctx context.Context, node statusNode, operation func(*client) (string, error)) error {
	client, err := n.session.awaitShortly(ctx)
	if err != nil {
		return n.fault(node.path, err)
	}
	if !n.locks.lock(ctx, node.path) {
		return n.fault(node.path, n.session.waitError(ctx))
	}
	return n.runUntilDone(ctx, node.path, func() error {
		defer n.locks.unlock(node.path)
		for range writeAttempts {
			path, err := operation(client)
			switch {
			case errors.Is(err, errNotServed):
				n.log.Debug("status left to another client", "path", node.path)
				return nil
			case err == nil || !isConflict(err):
				return n.fault(path, err)
			case ctx.Err() != nil:
				return n.fault(path, ctx.Err())
			}
		}
		return n.fault(node.path, zk.ErrBadVersion)
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

// nodeLocks has one lock for each path.
type nodeLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed at unlock
}

// lock waits for the lock of a path. It returns false if ctx ends before.
func (l *nodeLocks) lock(ctx context.Context, path string) bool {
	for {
		l.mu.Lock()
		held := l.held[path]
		if held == nil {
			l.held[path] = make(chan struct{})
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return false
		}
	}
}

func (l *nodeLocks) unlock(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[path])
	delete(l.held, path)
}

// errNotServed means that another client is responsible for the status of a container.
var errNotServed = errors.New("the status is another client's")

// ownedByOther reports whether another session owns a node.
func ownedByOther(client *client, stat *zk.Stat) bool {
	return stat.EphemeralOwner != 0 && stat.EphemeralOwner != client.id
}

// checkServed returns errNotServed if another client is responsible for the status.
func (n *NSDB) checkServed(client *client, node statusNode) error {
	if node.container == "" {
		return nil
	}
	serves, err := n.servesContainer(client, node.container)
	if err == nil && !serves {
		err = errNotServed
	}
	return err
}

// deleteNode deletes the node of a status if it exists.
func (n *NSDB) deleteNode(client *client, node statusNode) error {
	exists, stat, err := client.Exists(node.path)
	if err != nil || !exists {
		return err
	}
	if ownedByOther(client, stat) {
		if err := n.checkServed(client, node); err != nil {
			return err
		}
	}
	if err := client.Delete(node.path, stat.Version); !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	return nil
}

// ensureNode makes sure that the node of a status has the given data and belongs to this session. A node of another
// session is deleted and created in one multi request, so that readers never see it absent. The request also checks
// that the object exists, so that no status is left for a removed object. ensureNode returns the path that the error is
// about.
func (n *NSDB) ensureNode(client *client, node statusNode, data []byte) (string, error) {
	n.session.setPublished()
	current, stat, err := client.Get(node.path)
	switch {
	case err == nil && stat.EphemeralOwner == client.id && bytes.Equal(current, data):
		return node.path, nil
	case err == nil && stat.EphemeralOwner == client.id:
		_, err := client.Set(node.path, data, stat.Version)
		return node.path, err
	case err != nil && !errors.Is(err, zk.ErrNoNode):
		return node.path, err
	}
	absent := err != nil
	if absent && n.location.LeaveContainer || !absent && ownedByOther(client, stat) {
		if err := n.checkServed(client, node); err != nil {
			return node.object, err
		}
	}
	operations := []any{&zk.CheckVersionRequest{Path: node.object, Version: -1}}
	if !absent {
		operations = append(operations, &zk.DeleteRequest{Path: node.path, Version: stat.Version})
	}
	create := &zk.CreateRequest{Path: node.path, Data: data, Acl: worldACL, Flags: zk.FlagEphemeral}
	operations = append(operations, create)
	results, err := client.Multi(operations...)
	if !errors.Is(err, zk.ErrNoNode) {
		return node.path, err
	}
	if len(results) > 0 && errors.Is(results[0].Error, zk.ErrNoNode) {
		const text = "no such object: a status can exist only for an existing object"
		return node.object, &messageError{text, publish.ErrNoObject}
	}
	if err := makeParents(client, node.path); err != nil {
		return node.path, err
	}
	return node.path, zk.ErrNoNode // the node was deleted meanwhile, or its parents were missing: try again
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
