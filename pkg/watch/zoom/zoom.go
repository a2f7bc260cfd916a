// Package zoom is the NSDB that is MidoNet's own ZooKeeper: the ZOOM layout, read and watched node by node, and the
// statuses of this host as its scheduler expects them. What the nodes mean is package model's; here is the connection.
//
// One session serves reading and publishing. A node is watched for as long as it is looked at, an event makes it read
// again, and nothing of other hosts is read. While there is no session the last set stands; after every return all nodes
// are read again and every status that is due is written, at once and before anything slow.
//
// Statuses are ephemeral nodes. A node that another session owns, that of the supervisor before this one, is taken over
// in one multi, so that no reader ever sees it absent. Close leaves the session to its time-out for that reason: the next
// supervisor has until then. It takes over all containers' statuses with its first word, those of containers that it has
// nothing to say of yet, too. The agent's nodes alive and host are never written.
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

// NSDB is one MidoNet cluster's ZooKeeper as one host sees it.
type NSDB struct {
	location Location
	host     spec.HostID
	log      *slog.Logger
	session  *session

	serves func(spec.ContainerID, spec.ServiceType) bool // see ServeOnly; nil: every container

	life    context.Context // until Close
	end     context.CancelFunc
	running sync.WaitGroup // what was started and not yet waited for

	mu       sync.Mutex
	statuses map[string]*status // by path: what is to stand there
	speaks   bool               // something was said, or it was asked what was said: statuses are this process's
	said     map[string]bool    // paths of which something was said, be it removed since; nil: all was taken over

	taking sync.Mutex // held by the one that takes over
}

// Open makes an NSDB of a location that ParseURL checked. It connects to nothing.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	n := &NSDB{
		location: location, host: host, log: log.With("endpoint", location.Endpoint()),
		statuses: map[string]*status{}, said: map[string]bool{},
	}
	n.life, n.end = context.WithCancel(context.Background())
	n.session = newSession(location, n.log)
	n.session.returned = func() {
		n.running.Go(n.republish)
	}
	return n
}

// Close ends the connection. The session itself is left to its time-out if a status was published in it.
func (n *NSDB) Close() error {
	n.end()
	n.session.close()
	n.running.Wait()
	return nil
}

// ServeOnly has the NSDB publish only for containers that serves accepts, where another client has a status of one: MidoNet's
// agent serves types of its own. Such a status is neither taken over nor replaced nor removed. With ?container=leave none is
// created either, because the agent is about to. The type is "" where the container's object cannot be read. ServeOnly is called
// before the first status is published; serves is called by several goroutines.
func (n *NSDB) ServeOnly(serves func(spec.ContainerID, spec.ServiceType) bool) { n.serves = serves }

// servesContainer reports whether this supervisor publishes for a container.
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

// uuid is the host's id as MidoNet writes it.
func (n *NSDB) uuid() (model.UUID, error) {
	return model.ParseUUID("host id", n.host)
}

// AgentAlive says whether MidoNet's agent runs on this host: its alive node is there. Without a Host object it is not known,
// since the root may be a wrong one.
func (n *NSDB) AgentAlive(ctx context.Context) (bool, error) {
	host, err := n.uuid()
	if err != nil {
		return false, err
	}
	path, object := n.location.Tree.HostAlive(host), n.location.Tree.Object(model.Host, host)
	return ask(ctx, n, func(c *client) (bool, error) {
		if _, err := c.Sync(path); err != nil && !errors.Is(err, zk.ErrNoNode) { // a server may lag behind
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

// fault puts endpoint and path in front of what went wrong with a node, if they do not stand there.
func (n *NSDB) fault(path string, err error) error {
	var has *placed
	if err == nil || errors.As(err, &has) {
		return err
	}
	return &placed{n.location.Endpoint(), path, plain(err)}
}

// ask runs one operation on the session, after waiting for one if there is none, and again if the connection was lost on
// the way: it is for what can be done twice. ctx bounds all of it.
func ask[T any](ctx context.Context, n *NSDB, operation func(*client) (T, error)) (T, error) {
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
		answers := make(chan answer, 1)
		n.running.Go(func() {
			value, err := operation(c)
			answers <- answer{value, err}
		})
		select {
		case <-ctx.Done():
			return nothing, n.session.why(ctx)
		case a := <-answers:
			if !lost(a.err) {
				return a.value, a.err
			}
		}
		select { // whoever lost the connection tells the session in a moment
		case <-ctx.Done():
			return nothing, n.session.why(ctx)
		case <-time.After(lostPause):
		}
	}
}

// lostPause is how long an operation rests that met a connection about to go.
const lostPause = 20 * time.Millisecond
