package verb

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The daemon does not retry a Child SA that its peer refused, because the IKE SA is still established. Such a conn is
// called stalled here. ADD therefore asks for another ADD, which initiates the stalled conns, with a delay that
// doubles. Libreswan 5 waits up to five minutes before it retries an absent peer; ADD retries every minute.
const (
	firstRetry  = 5 * time.Second
	lastRetry   = 5 * time.Minute
	absentRetry = time.Minute // the longest delay if a peer has no IKE SA with this host
	// answerTime is how long the peer may take to answer after conns were loaded.
	answerTime = 2 * time.Second
)

// retry is the schedule by which stalled conns are initiated again.
type retry state.Retry

// readRetry returns the recorded schedule, or an empty one if the clock was set back after it was recorded.
func readRetry(recorded state.Retry, now time.Time) retry {
	r := retry(recorded)
	if r.Changed.After(now) || r.Next.After(now.Add(lastRetry)) {
		return retry{}
	}
	return r
}

// due reports whether stalled conns have to be initiated now. If so, it schedules the next attempt, with a delay of at
// most longest.
func (r *retry) due(now time.Time, longest time.Duration) bool {
	if now.Before(r.next(longest)) {
		return false
	}
	r.Delay = min(max(2*r.Delay, firstRetry), longest)
	r.Next = now.Add(r.Delay)
	return true
}

// next returns the time of the next attempt. The recorded delay may exceed the limit that applies now.
func (r *retry) next(longest time.Duration) time.Time {
	return r.Next.Add(-max(0, r.Delay-longest))
}

// nextADD returns the request for the ADD that initiates stalled conns, or nil if there are none.
func (r *retry) nextADD(stalled bool, now time.Time, longest time.Duration) *spec.Again {
	if !stalled {
		return nil
	}
	return &spec.Again{After: seconds(r.next(longest).Sub(now)), Reason: "retrying tunnels that are down"}
}

func seconds(d time.Duration) int { return int((max(d, 0) + time.Second - 1) / time.Second) }

// againForRefused asks for an ADD that loads the conns again that the daemon refused at the given time, so that a
// temporary fault does not last until the next edit. A conn with an ID that Libreswan misreads is not retried, because
// the result would be the same.
func againForRefused(refused map[string]string, at, now time.Time) *spec.Again {
	for _, reason := range refused {
		if !strings.Contains(reason, misreadID) {
			after := seconds(min(lastRetry, lastRetry-now.Sub(at)))
			return &spec.Again{After: after, Reason: "retrying a connection that the daemon refused"}
		}
	}
	return nil
}

// withoutUnsupported leaves out the connections that the kernel does not support: retrying them is useless.
func withoutUnsupported(root string, wanted []*config.Connection) []*config.Connection {
	return slices.DeleteFunc(slices.Clone(wanted), func(c *config.Connection) bool {
		return len(unsupportedMessages(root, []*config.Connection{c})) > 0
	})
}

// stalledConns returns the loaded conns that this end has to initiate, that are down, and for which no negotiation is
// in progress.
func stalledConns(wanted []*config.Connection, status *daemonStatus) []string {
	var conns []string
	for _, c := range wanted {
		if c.ResponseOnly {
			continue
		}
		for _, pair := range c.Pairs() {
			_, up := status.up[pair.Conn]
			conn, loaded := status.conns[pair.Conn]
			if loaded && !up && !conn.Negotiating {
				conns = append(conns, pair.Conn)
			}
		}
	}
	return conns
}

// maxRetryDelay returns the longest delay between two attempts to initiate these stalled conns.
func maxRetryDelay(wanted []*config.Connection, status *daemonStatus, stalled []string) time.Duration {
	present := peersWithIKE(wanted, status)
	for _, c := range wanted {
		if !present[c.PeerAddress] && hasConnIn(c, stalled) {
			return absentRetry
		}
	}
	return lastRetry
}

// hasConnIn reports whether a connection has one of these conns.
func hasConnIn(c *config.Connection, conns []string) bool {
	return slices.ContainsFunc(c.Pairs(), func(p config.Pair) bool { return slices.Contains(conns, p.Conn) })
}

// peersWithIKE returns the peers that have an established IKE SA with this host.
func peersWithIKE(wanted []*config.Connection, status *daemonStatus) map[netip.Addr]bool {
	present := map[netip.Addr]bool{}
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if status.conns[pair.Conn].IKE {
				present[c.PeerAddress] = true
			}
		}
	}
	return present
}

// connsNeedingIKESA returns all conns to those peers of stalled conns that have an IKE SA with this host, but no tunnel
// and no negotiation in progress. If the Diffie-Hellman groups of the two ends differ (PFS), the peer refuses every
// Child SA except the one that is created together with the IKE SA (RFC 7296, section 1.2). After it refused a rekey,
// only a new IKE SA brings the tunnel up.
func connsNeedingIKESA(wanted []*config.Connection, status *daemonStatus, stalled []string) []string {
	present, dead := peersWithIKE(wanted, status), map[netip.Addr]bool{}
	for _, c := range wanted {
		if present[c.PeerAddress] && hasConnIn(c, stalled) {
			dead[c.PeerAddress] = true
		}
	}
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			_, up := status.up[pair.Conn]
			if up || status.conns[pair.Conn].Negotiating || c.IKE.Version != "v2" || c.IPsec.NoPFS {
				dead[c.PeerAddress] = false
			}
		}
	}
	var conns []string
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if _, loaded := status.conns[pair.Conn]; loaded && dead[c.PeerAddress] {
				conns = append(conns, pair.Conn)
			}
		}
	}
	return conns
}

// changedNow returns the schedule for conns that were just loaded: they have been initiated, or the daemon is about to
// initiate them.
func changedNow(now time.Time) state.Retry {
	return state.Retry{Changed: now, Next: now.Add(answerTime)}
}

// retryStalled initiates stalled conns if an attempt is due, and returns the request for the next ADD. It saves the
// schedule after the attempt: if the verb is killed in between, the attempt is repeated.
func (c *change) retryStalled(ctx context.Context, d *libreswan.Daemon, status *daemonStatus) (*spec.Again, error) {
	now := time.Now()
	r := readRetry(c.recorded.Retry, now)
	wanted := c.request.configuration.Wanted()
	stalled := stalledConns(withoutUnsupported(c.Root, wanted), status)
	longest := maxRetryDelay(wanted, status, stalled)
	if err := d.Terminate(ctx, status.orphans...); err != nil {
		return nil, err
	}
	switch {
	case c.connsLoaded: // finish has recorded the schedule
	case len(stalled) == 0:
		r.Delay, r.Next = 0, time.Time{}
	case r.due(now, longest):
		if err := d.Terminate(ctx, connsNeedingIKESA(wanted, status, stalled)...); err != nil {
			return nil, err
		}
		if err := d.Initiate(ctx, stalled...); err != nil {
			return nil, err
		}
	}
	if state.Retry(r) != c.recorded.Retry {
		c.recorded.Retry = state.Retry(r)
		if err := c.dir.Save(c.recorded); err != nil {
			return nil, err
		}
	}
	return r.nextADD(len(stalled) > 0, now, longest), nil
}

// againForCheck returns the request of CHECK for the ADD that initiates stalled conns. CHECK itself initiates nothing.
func (e *Executable) againForCheck(recorded state.Retry, wanted []*config.Connection,
	status *daemonStatus,
) *spec.Again {
	now := time.Now()
	r := readRetry(recorded, now)
	stalled := stalledConns(withoutUnsupported(e.Root, wanted), status)
	return r.nextADD(len(stalled) > 0, now, maxRetryDelay(wanted, status, stalled))
}

// earliest returns the request that is due first, or nil if all requests are nil.
func earliest(requests ...*spec.Again) *spec.Again {
	var first *spec.Again
	for _, request := range requests {
		if request != nil && (first == nil || request.After < first.After) {
			first = request
		}
	}
	return first
}
