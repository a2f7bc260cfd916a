// Package etcd implements an NSDB in an etcd cluster: native objects are stored as JSON below a key prefix that many
// hosts share.
//
// A desired set is read at one revision of etcd, completely or not at all, and the watches start at the following
// revision. So no change is missed, and no set mixes two states. When a watch breaks, or etcd has compacted the
// revision, everything is read again. A watch event only causes another read: the changed object is read again at one
// later revision, together with all objects of the same bindings. A host reads and watches its own object, its
// settings, its bindings, and, key by key, the objects that its bindings refer to. Changes of other hosts cause no
// traffic to this host.
//
// One client serves all requests. It uses one stream for the watches and one for the lease. Every request has a
// deadline, and a stream without traffic is closed. So the client also moves on from a member that hangs or that is
// partitioned from the others. While etcd is unreachable, the last set remains valid; an unread host is reported only
// if no set was read before.
//
// Statuses are stored under a lease. They outlive a stopped supervisor by the TTL of the lease, so that readers do not
// notice a restart, and the next process puts them under its own lease. If the lease is lost, a new one is granted, and
// SessionChanged asks for all statuses. Close does not revoke the lease. A status that another client deletes is
// written again with the next status of its container, or when the watches have started again.
//
// The package needs etcd 3.4 or later.
package etcd

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// NSDB is one key prefix of an etcd cluster, as seen by one host.
type NSDB struct {
	location    Location
	host        spec.HostID
	log         *slog.Logger
	timeouts    timeouts
	dialOptions []grpc.DialOption // in addition to the default ones

	mu        sync.Mutex
	client    *clientv3.Client // nil: not connected yet
	authority []byte           // content of the CA file that the client uses
	closed    bool
	token     token

	lease          *lease
	sessionChanged chan struct{}
}

// timeouts are the limits of requests and streams, and the intervals of retries and log messages.
type timeouts struct {
	request    time.Duration // for the response to one request
	streamIdle time.Duration // without a message on the watch stream, before it is closed
	maxBackoff time.Duration // between two attempts
	reminder   time.Duration // between two log messages that etcd is unreachable
}

// With etcd's default settings a leader election takes 1 to 2 s. A member that does not respond within 3 s may be
// hanging, so another one is asked.
var defaultTimeouts = timeouts{
	request:    3 * time.Second,
	streamIdle: 5 * time.Second,
	maxBackoff: time.Second,
	reminder:   10 * time.Minute,
}

// Open returns an NSDB for a location that ParseURL checked. It makes no connection and opens no file.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	n := &NSDB{location: location, host: host, log: log, timeouts: defaultTimeouts, sessionChanged: make(chan struct{}, 1)}
	n.lease = newLease(n)
	return n
}

// Close closes the connection. Statuses remain until their lease expires.
func (n *NSDB) Close() error {
	n.lease.close()
	n.mu.Lock()
	client := n.client
	n.client, n.closed = nil, true
	n.mu.Unlock()
	if client != nil {
		_ = client.Close() // reports only that the client's context was cancelled
	}
	return nil
}

// Run reads and watches the desired state until ctx ends. After an error it starts again with a full read.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	r := &runState{n: n, ledger: native.NewLedger(n.log), changed: changed}
	for ctx.Err() == nil {
		err := n.readAndWatch(ctx, r.deliver)
		if ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.failed(err)):
		}
	}
	return nil
}

// runState is the state of Run: the last desired set that was passed to changed, and the failures that were logged.
type runState struct {
	n       *NSDB
	ledger  *native.Ledger
	changed func(spec.Desired)

	last        *spec.Desired
	read        bool      // at least one set was read
	firstSetAt  time.Time // when the current readAndWatch read its first set; zero: not yet
	failures    int       // consecutive
	unreachable bool      // the failure was logged, and the recovery not yet
	reported    time.Time // when the failure was logged last
}

// deliver logs the faults of a set that was read, and passes the set on if it differs from the last one.
func (r *runState) deliver(desired spec.Desired, faults []native.Fault) {
	if r.unreachable {
		r.n.log.Info("NSDB answers again", "endpoints", r.n.endpoints())
	}
	if r.firstSetAt.IsZero() {
		r.firstSetAt = time.Now()
		r.n.notifySessionChanged() // etcd may have been unreachable
	}
	r.read, r.unreachable = true, false
	r.ledger.Tell(faults, desired.Unread == "")
	r.deliverIfChanged(desired)
}

func (r *runState) deliverIfChanged(desired spec.Desired) {
	if r.last == nil || !r.last.Equal(&desired) {
		r.last = &desired
		r.changed(desired)
	}
}

// failed records the error that ended readAndWatch and returns the time to wait before the next attempt. A watch that
// breaks after it worked for a while is not logged, because the client then continues with another member. A watch that
// breaks soon after every start is logged.
func (r *runState) failed(err error) time.Duration {
	if !r.firstSetAt.IsZero() && time.Since(r.firstSetAt) >= r.n.timeouts.streamIdle {
		r.failures, r.reported = 0, time.Time{}
	}
	r.firstSetAt = time.Time{}
	r.failures++
	wait := r.n.timeouts.maxBackoff / 10
	for range min(r.failures-1, 4) {
		wait = min(2*wait, r.n.timeouts.maxBackoff)
	}
	wait = wait/2 + rand.N(wait/2+1) // jitter: the hosts should not retry at the same time
	r.n.dropClientIfCAChanged()
	if (r.failures > 1 || !r.read) && time.Since(r.reported) >= r.n.timeouts.reminder {
		r.unreachable, r.reported = true, time.Now()
		r.n.log.Warn("NSDB cannot be followed: running containers are not changed", "error", err, "retry", wait)
		// Only with the log message, not at each attempt: the error names a member or a port, and each new text would be a
		// new set for the caller.
		if !r.read {
			r.deliverIfChanged(spec.Desired{Unread: err.Error(), Host: spec.Host{ID: r.n.host}})
		}
	}
	return wait
}

// readAndWatch reads everything, then reads what changes, until an error occurs.
func (n *NSDB) readAndWatch(ctx context.Context, deliver func(spec.Desired, []native.Fault)) error {
	m := newMirror(n)
	if err := m.readWhole(ctx); err != nil {
		return err
	}
	deliver(m.desired, m.faults)
	s, err := n.openStream(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		if err := m.watch(s); err != nil {
			return err
		}
		revisions, err := s.wait(ctx)
		if err != nil {
			return err
		}
		dirty := m.changedSinceRead(revisions)
		if len(dirty) == 0 {
			continue
		}
		if err := m.update(ctx, dirty); err != nil {
			return err
		}
		deliver(m.desired, m.faults)
	}
}

// endpoints returns the endpoints for log messages and errors.
func (n *NSDB) endpoints() string { return strings.Join(n.location.Endpoints, ",") }

// path returns the etcd key of an object: the prefix and the native key.
func (n *NSDB) path(key native.Key) string { return n.location.Prefix + string(key) }

// key returns the native key of an etcd key. It is the inverse of path.
func (n *NSDB) key(path []byte) native.Key {
	return native.Key(strings.TrimPrefix(string(path), n.location.Prefix))
}
