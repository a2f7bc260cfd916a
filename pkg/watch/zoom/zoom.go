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
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// NSDB is the ZooKeeper of one MidoNet cluster, as seen by one host.
type NSDB struct {
	location Location
	host     spec.HostID
	log      *slog.Logger
	session  *session

	serves func(spec.ContainerID, spec.ServiceType) bool // see ServeOnly; nil: every container

	ctx        context.Context // ends at Close
	shutdown   context.CancelFunc
	goroutines sync.WaitGroup // started by this NSDB; Close waits for them

	sessionChanged chan struct{}
	locks          nodeLocks
}

// Open returns an NSDB for a location that ParseURL checked. It makes no connection.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	n := &NSDB{
		location: location, host: host, log: log.With("endpoint", location.Endpoint()),
		sessionChanged: make(chan struct{}, 1), locks: nodeLocks{held: map[string]chan struct{}{}},
	}
	n.ctx, n.shutdown = context.WithCancel(context.Background())
	n.session = newSession(location, n.log)
	n.session.onConnected = n.notifySessionChanged
	return n
}

// Close closes the connection. If a status was published, the session is not closed but left to its timeout.
func (n *NSDB) Close() error {
	n.shutdown()
	n.session.close()
	n.goroutines.Wait()
	return nil
}

// ServeOnly restricts publishing where another client has published the status of a container: MidoNet's agent serves
// service types of its own. If serves returns false, such a status is neither taken over nor replaced nor removed. With
// ?container=leave no status of such a container is created either, because the agent is about to create it. The
// service type is "" if the container's object cannot be read. ServeOnly must be called before the first status is
// published. serves may be called by several goroutines at the same time.
func (n *NSDB) ServeOnly(serves func(spec.ContainerID, spec.ServiceType) bool) { n.serves = serves }

// servesContainer reports whether this supervisor publishes the status of a container.
func (n *NSDB) servesContainer(client *client, id model.UUID) (bool, error) {
	if n.serves == nil {
		return true, nil
	}
	data, _, err := client.Get(n.location.Tree.Object(model.ServiceContainer, id))
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return false, err
	}
	return n.serves(spec.ContainerID(id), model.ReadServiceType(data, id)), nil
}

// uuid returns the host's id as a UUID of MidoNet.
func (n *NSDB) uuid() (model.UUID, error) {
	return model.ParseUUID("host id", n.host)
}

// AgentAlive reports whether MidoNet's agent runs on this host, which means that its alive node exists. It returns an
// error if there is no Host object, because the root key may be wrong then.
func (n *NSDB) AgentAlive(ctx context.Context) (bool, error) {
	host, err := n.uuid()
	if err != nil {
		return false, err
	}
	path, object := n.location.Tree.HostAlive(host), n.location.Tree.Object(model.Host, host)
	return runInSession(ctx, n, func(c *client) (bool, error) {
		if _, err := c.Sync(path); err != nil && !errors.Is(err, zk.ErrNoNode) { // the server may lag behind the leader
			return false, n.fault(path, err)
		}
		known, _, err := c.Exists(object)
		if err == nil && !known {
			err = zk.ErrNoNode
		}
		if err != nil {
			return false, n.fault(object, err)
		}
		alive, _, err := c.Exists(path)
		return alive, n.fault(path, err)
	})
}

// fault wraps an error with the endpoint and the path of a node. An error that has both already is returned unchanged.
func (n *NSDB) fault(path string, err error) error {
	var known *nodeError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &nodeError{n.location.Endpoint(), path, describe(err)}
}

// runInSession waits for a session and runs an operation. It repeats the operation if the connection is lost meanwhile,
// so the operation must be idempotent. ctx limits the whole call.
func runInSession[T any](ctx context.Context, n *NSDB, operation func(*client) (T, error)) (T, error) {
	for {
		var nothing T
		c, err := n.session.await(ctx)
		if err != nil {
			return nothing, err
		}
		type answer struct {
			value T
			err   error
		}
		results := make(chan answer, 1)
		n.goroutines.Go(func() {
			value, err := operation(c)
			results <- answer{value, err}
		})
		select {
		case <-ctx.Done():
			return nothing, n.session.waitError(ctx)
		case a := <-results:
			if !connectionLost(a.err) {
				return a.value, a.err
			}
		}
		select { // the session learns of the lost connection a moment later
		case <-ctx.Done():
			return nothing, n.session.waitError(ctx)
		case <-time.After(retryPause):
		}
	}
}

// retryPause is the time between a lost connection and the next attempt.
const retryPause = 20 * time.Millisecond
