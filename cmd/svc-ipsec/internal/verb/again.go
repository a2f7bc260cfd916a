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

// A peer that refuses a Child SA is not asked again by the daemon: its IKE SA stands, and so it rests. So ADD asks for ADD
// again, which initiates what rests, with a delay that doubles. Libreswan 5 waits for up to five minutes before it tries an absent
// peer again; ADD does that every minute.
const (
	firstRetry  = 5 * time.Second
	lastRetry   = 5 * time.Minute
	absentRetry = time.Minute // if a peer has no IKE SA with us
	// answerTime is what the peer gets to answer after a change.
	answerTime = 2 * time.Second
)

// retry decides when connections that do not come up are initiated again.
type retry state.Retry

// readRetry returns the recorded schedule, or an empty one if the clock was set back since it was recorded.
func readRetry(recorded state.Retry, now time.Time) retry {
	r := retry(recorded)
	if r.Changed.After(now) || r.Next.After(now.Add(lastRetry)) {
		return retry{}
	}
	return r
}

// due says whether what rests is to be initiated now; then it notes that it was. The delay is at most longest.
func (r *retry) due(now time.Time, longest time.Duration) bool {
	if now.Before(r.next(longest)) {
		return false
	}
	r.Delay = min(max(2*r.Delay, firstRetry), longest)
	r.Next = now.Add(r.Delay)
	return true
}

// next is the time of the next attempt. The recorded delay may be longer than what is the longest now.
func (r *retry) next(longest time.Duration) time.Time {
	return r.Next.Add(-max(0, r.Delay-longest))
}

// wish says when ADD should come again for the sake of the tunnels that are down: nil if the daemon, or the peer, is at work
// on all of them.
func (r *retry) wish(resting bool, now time.Time, longest time.Duration) *spec.Again {
	if !resting {
		return nil
	}
	return &spec.Again{After: seconds(r.next(longest).Sub(now)), Reason: "a tunnel that was refused is asked for again"}
}

func seconds(d time.Duration) int { return int((max(d, 0) + time.Second - 1) / time.Second) }

// nextTry asks for the ADD that offers the daemon again what it refused at that time: a fault of the moment must not last until
// somebody edits. An id that it takes for another is none.
func nextTry(refused map[string]string, at, now time.Time) *spec.Again {
	for _, reason := range refused {
		if !strings.Contains(reason, misread) {
			return &spec.Again{After: seconds(min(lastRetry, lastRetry-now.Sub(at))), Reason: "a connection that the daemon refused is tried again"}
		}
	}
	return nil
}

// carried leaves out what the kernel cannot carry: no peer's answer changes that.
func carried(root string, wanted []*config.Connection) []*config.Connection {
	return slices.DeleteFunc(slices.Clone(wanted), func(c *config.Connection) bool { return len(lacks(root, []*config.Connection{c})) > 0 })
}

// resting lists the conns that should be up, are not, and nobody is at work on.
func resting(wanted []*config.Connection, v *view) []string {
	var conns []string
	for _, c := range wanted {
		if c.ResponseOnly {
			continue
		}
		for _, pair := range c.Pairs() {
			_, up := v.up[pair.Conn]
			conn, loaded := v.conns[pair.Conn]
			if loaded && !up && !conn.Negotiating {
				conns = append(conns, pair.Conn)
			}
		}
	}
	return conns
}

// longestDelay returns the longest delay between two attempts to initiate these conns, which rest.
func longestDelay(wanted []*config.Connection, v *view, rest []string) time.Duration {
	present := peersWithIKE(wanted, v)
	for _, c := range wanted {
		if !present[c.PeerAddress] && slices.ContainsFunc(c.Pairs(), func(p config.Pair) bool { return slices.Contains(rest, p.Conn) }) {
			return absentRetry
		}
	}
	return lastRetry
}

// peersWithIKE returns the peers that have an IKE SA with us.
func peersWithIKE(wanted []*config.Connection, v *view) map[netip.Addr]bool {
	present := map[netip.Addr]bool{}
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if v.conns[pair.Conn].IKE {
				present[c.PeerAddress] = true
			}
		}
	}
	return present
}

// deadEnds lists the conns to the peers of those that rest, if such a peer has an IKE SA with us and no tunnel, and none is being
// negotiated. If the Diffie-Hellman groups of the two ends differ (pfs), the peer refuses each Child SA but the one that comes with
// the IKE SA itself (RFC 7296, section 1.2). So after a rekey was refused, only a new IKE SA brings the tunnel up.
func deadEnds(wanted []*config.Connection, v *view, rest []string) []string {
	present, dead := peersWithIKE(wanted, v), map[netip.Addr]bool{}
	for _, c := range wanted {
		if present[c.PeerAddress] && slices.ContainsFunc(c.Pairs(), func(p config.Pair) bool { return slices.Contains(rest, p.Conn) }) {
			dead[c.PeerAddress] = true
		}
	}
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if _, up := v.up[pair.Conn]; up || v.conns[pair.Conn].Negotiating || c.IKE.Version != "v2" || c.IPsec.NoPFS {
				dead[c.PeerAddress] = false
			}
		}
	}
	var conns []string
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if _, loaded := v.conns[pair.Conn]; loaded && dead[c.PeerAddress] {
				conns = append(conns, pair.Conn)
			}
		}
	}
	return conns
}

// changedNow is the schedule after conns were loaded: they have just been initiated, or the daemon is about to initiate them.
func changedNow(now time.Time) state.Retry {
	return state.Retry{Changed: now, Next: now.Add(answerTime)}
}

// retryResting initiates what rests, if it is time to, and says when ADD should come again. The schedule is written after the
// attempt: if the verb is killed in between, the attempt is repeated.
func (c *change) retryResting(ctx context.Context, d *libreswan.Daemon, v *view) (*spec.Again, error) {
	now := time.Now()
	r := readRetry(c.recorded.Retry, now)
	wanted := c.request.configuration.Wanted()
	rest := resting(carried(c.Root, wanted), v)
	longest := longestDelay(wanted, v, rest)
	if err := d.Terminate(ctx, v.orphans...); err != nil {
		return nil, err
	}
	switch {
	case c.touched: // finish has recorded it
	case len(rest) == 0:
		r.Delay, r.Next = 0, time.Time{}
	case r.due(now, longest):
		if err := d.Terminate(ctx, deadEnds(wanted, v, rest)...); err != nil {
			return nil, err
		}
		if err := d.Initiate(ctx, rest...); err != nil {
			return nil, err
		}
	}
	if state.Retry(r) != c.recorded.Retry {
		c.recorded.Retry = state.Retry(r)
		if err := c.folder.Save(c.recorded); err != nil {
			return nil, err
		}
	}
	return r.wish(len(rest) > 0, now, longest), nil
}

// wishOfCheck is what CHECK asks for: to have initiated what rests, when that is due. It initiates nothing itself.
func (e *Executable) wishOfCheck(recorded state.Retry, wanted []*config.Connection, v *view) *spec.Again {
	now := time.Now()
	r := readRetry(recorded, now)
	rest := resting(carried(e.Root, wanted), v)
	return r.wish(len(rest) > 0, now, longestDelay(wanted, v, rest))
}

// soonest is the earliest of several wishes for another ADD; nil is none.
func soonest(wishes ...*spec.Again) *spec.Again {
	var first *spec.Again
	for _, wish := range wishes {
		if wish != nil && (first == nil || wish.After < first.After) {
			first = wish
		}
	}
	return first
}
