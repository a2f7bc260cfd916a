// Package zoom implements the NSDB that is stored in MidoNet's own ZooKeeper. It reads and watches the nodes of the
// ZOOM layout, and writes the statuses of this host in the form that MidoNet's scheduler expects. Package model
// interprets the nodes; this package maintains the connection.
//
// One session serves reading and publishing. Run keeps a watch on every node that it uses and reads a node again after
// an event. Nodes of other hosts are not read. Without a session, the last set remains valid. After every reconnect all
// nodes are read again, and SessionChanged asks for all statuses; those whose nodes differ are then written.
//
// Statuses are ephemeral nodes. If another session owns a node, which is usually the session of the previous
// supervisor, the node is replaced in one multi request, so that readers never see it absent. For the same reason Close
// lets the session time out: the next supervisor has that time to put the statuses that ListStatuses returns, even
// those of containers for which it has no status of its own. The agent's nodes alive and host are never written.
package zoom

import (
	"context"
	"errors"
	"log/slog"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// NSDB is the ZooKeeper of one MidoNet cluster, as seen by one host. A reader reads and watches the desired state,
// statusWriter writes the statuses, and administration reads and writes objects for commands. They share a connection
// with its session.
type NSDB struct {
	conn           *connection
	host           spec.HostID
	sessionChanged signal.Signal

	*statusWriter
	*administration
}

// Open returns an NSDB for a location that ParseURL checked. It makes no connection.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	sessionChanged := signal.New()
	conn := newConnection(location, log.With("endpoint", location.Endpoint()), sessionChanged.Send)
	return &NSDB{
		conn: conn, host: host, sessionChanged: sessionChanged,
		statusWriter:   newStatusWriter(conn, host, sessionChanged),
		administration: newAdministration(conn),
	}
}

// Close closes the connection. If a status was published, the session is not closed but left to its timeout.
func (n *NSDB) Close() error {
	n.conn.close()
	return nil
}

// Run reads the nodes that the host's object leads to, and reads them again after events, until ctx ends.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	host, err := hostUUID(n.host)
	if err != nil {
		return err
	}
	r := &reader{conn: n.conn, host: host, sessionChanged: n.sessionChanged}
	return r.run(ctx, changed)
}

// AgentAlive reports whether MidoNet's agent runs on this host, which means that its alive node exists. It returns an
// error if there is no Host object, because the root key may be wrong then.
func (n *NSDB) AgentAlive(ctx context.Context) (bool, error) {
	host, err := hostUUID(n.host)
	if err != nil {
		return false, err
	}
	path, object := n.conn.location.Tree.HostAlive(host), n.conn.location.Tree.Object(model.Host, host)
	return runInSession(ctx, n.conn, func(c *client) (bool, error) {
		if _, err := c.Sync(path); err != nil && !errors.Is(err, zk.ErrNoNode) { // the server may lag behind the leader
			return false, n.conn.fault(path, err)
		}
		known, _, err := c.Exists(object)
		if err == nil && !known {
			err = zk.ErrNoNode
		}
		if err != nil {
			return false, n.conn.fault(object, err)
		}
		alive, _, err := c.Exists(path)
		return alive, n.conn.fault(path, err)
	})
}

// hostUUID returns a host's id as a UUID of MidoNet.
func hostUUID(host spec.HostID) (model.UUID, error) { return model.ParseUUID("host id", host) }
