package zoom

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
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

// statusWriter writes the statuses of one host as nodes of the current session.
type statusWriter struct {
	conn           *connection
	host           spec.HostID
	sessionChanged signal.Signal
	serves         func(spec.ContainerID, spec.ServiceType) bool // see ServeOnly; nil: every container
	locks          nodeLocks
}

func newStatusWriter(conn *connection, host spec.HostID, sessionChanged signal.Signal) *statusWriter {
	return &statusWriter{
		conn: conn, host: host, sessionChanged: sessionChanged, locks: nodeLocks{held: map[string]chan struct{}{}},
	}
}

// ServeOnly restricts publishing where another client has published the status of a container: MidoNet's agent serves
// service types of its own. If serves returns false, such a status is neither taken over nor replaced nor removed. With
// ?container=leave no status of such a container is created either, because the agent is about to create it. The
// service type is "" if the container's object cannot be read. ServeOnly must be called before the first status is
// published. serves may be called by several goroutines at the same time.
func (w *statusWriter) ServeOnly(serves func(spec.ContainerID, spec.ServiceType) bool) {
	w.serves = serves
}

// servesContainer reports whether this supervisor publishes the status of a container.
func (w *statusWriter) servesContainer(client *client, id model.UUID) (bool, error) {
	if w.serves == nil {
		return true, nil
	}
	data, _, err := client.Get(w.conn.location.Tree.Object(model.ServiceContainer, id))
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return false, err
	}
	return w.serves(spec.ContainerID(id), model.ReadServiceType(data, id)), nil
}

// EncodeHost returns the data of the node of a host's status.
func (w *statusWriter) EncodeHost(status spec.HostStatus) ([]byte, error) {
	return model.PrintHostStatus(status), nil
}

// EncodeContainer returns the data of the node of a container's status.
func (w *statusWriter) EncodeContainer(status spec.ContainerStatus) ([]byte, error) {
	return model.PrintContainerStatus(status)
}

// PutStatus makes sure that the node of a status has the given data and belongs to the current session. It fails soon
// if there is no session. The id "" stands for the host, whose status may be left to the agent; without that status
// MidoNet's scheduler moves all containers away from the host. If the object of the container or of the host does not
// exist, errors.Is(err, publish.ErrNoObject) holds.
func (w *statusWriter) PutStatus(ctx context.Context, id spec.ContainerID, value []byte) error {
	node, err := w.statusNode(id)
	if err == nil && !w.leftToAgent(id) {
		err = w.writeNode(ctx, node, func(c *client) (string, error) { return w.ensureNode(c, node, value) })
	}
	if err != nil {
		return fmt.Errorf("publish status of %s: %w", w.owner(id), err)
	}
	return nil
}

// DeleteStatus deletes the node of a status, even if another session has written it; see ServeOnly for the exception.
// It succeeds if there is no node. The id "" stands for the host, whose status may be left to the agent.
func (w *statusWriter) DeleteStatus(ctx context.Context, id spec.ContainerID) error {
	node, err := w.statusNode(id)
	if err == nil && !w.leftToAgent(id) {
		err = w.writeNode(ctx, node, func(c *client) (string, error) { return node.path, w.deleteNode(c, node) })
	}
	if err != nil {
		return fmt.Errorf("remove status of %s: %w", w.owner(id), err)
	}
	return nil
}

// leftToAgent reports whether an id is that of the host, and the agent writes the host's status.
func (w *statusWriter) leftToAgent(id spec.ContainerID) bool {
	return id == "" && w.conn.location.LeaveContainer
}

// owner returns the owner of a status for an error text.
func (w *statusWriter) owner(id spec.ContainerID) string {
	if id == "" {
		return "host " + spec.Quote(string(w.host))
	}
	return "container " + spec.Quote(string(id))
}

// statusNode returns the node of the status of a container, or of the host if the id is "".
func (w *statusWriter) statusNode(id spec.ContainerID) (statusNode, error) {
	host, err := hostUUID(w.host)
	if err != nil {
		return statusNode{}, err
	}
	tree := w.conn.location.Tree
	if id == "" {
		return statusNode{tree.HostState(host), tree.Object(model.Host, host), ""}, nil
	}
	container, err := model.ParseUUID("container id", id)
	if err != nil {
		return statusNode{}, err
	}
	return statusNode{tree.ContainerState(host, container), tree.Object(model.ServiceContainer, container), container},
		nil
}

// SessionChanged returns a channel that receives a value after each (re)connect and at each rescan. Then statuses may
// be missing, because their session has expired or another client has deleted them.
func (w *statusWriter) SessionChanged() <-chan struct{} { return w.sessionChanged }

// writeNode makes one change of a status node in the current session. operation returns the path that its error is
// about. It is repeated if the node has changed since it was read.
//
// The client library cannot cancel a request. Therefore writeNode returns when ctx ends, and the request continues, but
// a later change of the same node waits for it. So an older status never overwrites a newer one.
func (w *statusWriter) writeNode(ctx context.Context, node statusNode, operation func(*client) (string, error)) error {
	if !w.locks.lock(ctx, node.path) {
		return w.conn.fault(node.path, w.conn.session.waitError(ctx))
	}
	client, err := w.conn.session.awaitShortly(ctx) // after the lock, because the session may be replaced meanwhile
	if err != nil {
		w.locks.unlock(node.path)
		return w.conn.fault(node.path, err)
	}
	return w.conn.runUntilDone(ctx, node.path, func() error {
		defer w.locks.unlock(node.path)
		for range writeAttempts {
			path, err := operation(client)
			switch {
			case errors.Is(err, errNotServed):
				w.conn.log.Debug("status left to another client", "path", node.path)
				return nil
			case err == nil || !isConflict(err):
				return w.conn.fault(path, err)
			case ctx.Err() != nil:
				return w.conn.fault(path, ctx.Err())
			}
		}
		return w.conn.fault(node.path, zk.ErrBadVersion)
	})
}

// errNotServed means that another client is responsible for the status of a container.
var errNotServed = errors.New("the status is another client's")

// ownedByOther reports whether another session owns a node.
func ownedByOther(client *client, stat *zk.Stat) bool {
	return stat.EphemeralOwner != 0 && stat.EphemeralOwner != client.id
}

// checkServed returns errNotServed if another client is responsible for the status.
func (w *statusWriter) checkServed(client *client, node statusNode) error {
	if node.container == "" {
		return nil
	}
	serves, err := w.servesContainer(client, node.container)
	if err == nil && !serves {
		err = errNotServed
	}
	return err
}

// deleteNode deletes the node of a status if it exists.
func (w *statusWriter) deleteNode(client *client, node statusNode) error {
	exists, stat, err := client.Exists(node.path)
	if err != nil || !exists {
		return err
	}
	if ownedByOther(client, stat) {
		if err := w.checkServed(client, node); err != nil {
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
func (w *statusWriter) ensureNode(client *client, node statusNode, data []byte) (string, error) {
	w.conn.session.setPublished()
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
	if absent && w.conn.location.LeaveContainer || !absent && ownedByOther(client, stat) {
		if err := w.checkServed(client, node); err != nil {
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
