// Package etcd is the NSDB that is an etcd cluster: native objects as JSON below a prefix, for many hosts.
//
// What is read is one revision of etcd, whole or not at all, and a watch goes on from the revision after it: no change is
// missed, and none is made up of halves. When the watch breaks, or etcd has forgotten the revision (compaction), all is
// read again. An event is only a hint: what it touches is read again, with all that belongs to the same bindings, at one
// later revision. A host reads and watches its own object, its settings, its bindings, and what these name, key by key; a
// change of another host's costs nothing.
//
// One client serves everything, with one stream for the watches and one for the lease. Every request has a deadline, and
// a stream that is silent is left, so that a member that hangs or has lost the others is left as well. While etcd is away
// the last set stands; only before the first one was read is the host told to be unread.
//
// Statuses are under a lease. They outlive a supervisor that is gone by the lease's time, so that a restart is not seen;
// who comes after takes them over. A lease that was lost is replaced and all statuses are written again at once. Close
// does not end the lease. A status that somebody else removes is written again with the next word on its container.
//
// It needs etcd 3.4 or later.
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

// NSDB is a prefix of an etcd cluster as one host sees it.
type NSDB struct {
	location Location
	host     spec.HostID
	log      *slog.Logger
	patience patience
	dial     []grpc.DialOption // beside the usual ones

	mu        sync.Mutex
	client    *clientv3.Client // nil: none yet
	authority []byte           // the content of the file that the client trusts
	closed    bool
	token     token

	voice *voice
}

// patience is how long is waited for what.
type patience struct {
	try     time.Duration // for the answer to one request
	silence time.Duration // for a sign of life of the watches' stream
	retry   time.Duration // between two tries, at most
	remind  time.Duration // until it is told again that etcd is away
}

// A leader is elected in 1 to 2 s by etcd's usual settings. What etcd cannot answer in 3 s another member may.
var usualPatience = patience{
	try:     3 * time.Second,
	silence: 5 * time.Second,
	retry:   time.Second,
	remind:  10 * time.Minute,
}

// Open makes an NSDB of a location that ParseURL checked. It connects to nothing and opens no file.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	n := &NSDB{location: location, host: host, log: log, patience: usualPatience}
	n.voice = newVoice(n)
	return n
}

// Close ends the connection. Statuses stay until their lease runs out.
func (n *NSDB) Close() error {
	n.voice.close()
	n.mu.Lock()
	client := n.client
	n.client, n.closed = nil, true
	n.mu.Unlock()
	if client != nil {
		_ = client.Close() // what it returns is that it was closed
	}
	return nil
}

// Run reads and watches until ctx ends. Whatever breaks, it begins again.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	h := &hearing{n: n, ledger: native.NewLedger(n.log), changed: changed}
	for ctx.Err() == nil {
		err := n.follow(ctx, h.hear)
		if ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(h.broken(err)):
		}
	}
	return nil
}

// hearing is what was handed over, and what was told of the NSDB.
type hearing struct {
	n       *NSDB
	ledger  *native.Ledger
	changed func(spec.Desired)

	last     *spec.Desired
	read     bool      // a set was read, once at least
	since    time.Time // when the following that is under way read its first set; zero: it has not
	failures int       // in a row
	away     bool      // it was told that etcd is away, and not yet that it is back
	told     time.Time // when that was told last
}

// hear takes a set that was read.
func (h *hearing) hear(desired spec.Desired, faults []native.Fault) {
	if h.away {
		h.n.log.Info("NSDB answers again", "endpoints", h.n.endpoints())
	}
	if h.since.IsZero() {
		h.since = time.Now()
	}
	h.read, h.away = true, false
	h.ledger.Tell(faults, desired.Unread == "")
	h.hand(desired)
}

func (h *hearing) hand(desired spec.Desired) {
	if h.last == nil || !h.last.Equal(&desired) {
		h.last = &desired
		h.changed(desired)
	}
}

// broken takes what ended the following, and says how long to wait before the next try. A watch that breaks after it went
// well for a while is nothing to tell: another member takes over. One that breaks whenever it was begun is.
func (h *hearing) broken(err error) time.Duration {
	if !h.since.IsZero() && time.Since(h.since) >= h.n.patience.silence {
		h.failures, h.told = 0, time.Time{}
	}
	h.since = time.Time{}
	h.failures++
	wait := h.n.patience.retry / 10
	for range min(h.failures-1, 4) {
		wait = min(2*wait, h.n.patience.retry)
	}
	wait = wait/2 + rand.N(wait/2+1) // not all hosts at once
	h.n.refresh()
	if (h.failures > 1 || !h.read) && time.Since(h.told) >= h.n.patience.remind {
		h.away, h.told = true, time.Now()
		h.n.log.Warn("NSDB cannot be followed: what runs stays as it is", "error", err, "retry", wait)
		if !h.read { // not at each try: the text names a member or a port, and each new one is a new set to whoever hears it
			h.hand(spec.Desired{Unread: err.Error(), Host: spec.Host{ID: h.n.host}})
		}
	}
	return wait
}

// follow reads everything, and then what changes, until something breaks.
func (n *NSDB) follow(ctx context.Context, hear func(spec.Desired, []native.Fault)) error {
	m := newMirror(n)
	if err := m.readWhole(ctx); err != nil {
		return err
	}
	hear(m.desired, m.faults)
	s, err := n.openStream(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		if err := m.watch(s); err != nil {
			return err
		}
		told, err := s.wait(ctx)
		if err != nil {
			return err
		}
		dirty := m.news(told)
		if len(dirty) == 0 {
			continue
		}
		if err := m.update(ctx, dirty); err != nil {
			return err
		}
		hear(m.desired, m.faults)
	}
}

// endpoints names the cluster in texts.
func (n *NSDB) endpoints() string { return strings.Join(n.location.Endpoints, ",") }

// path is the key of an object as etcd has it.
func (n *NSDB) path(key native.Key) string { return n.location.Prefix + string(key) }

// key is the reverse of path.
func (n *NSDB) key(path []byte) native.Key {
	return native.Key(strings.TrimPrefix(string(path), n.location.Prefix))
}
