package endpoint

import (
	"net/netip"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// The daemon does not retry a Child SA that its peer refused, because the IKE SA is still established. Such a conn is
// called stalled here. ADD therefore asks for another ADD, which initiates the stalled conns, with a delay that
// doubles. Libreswan 5 waits up to five minutes before it retries an absent peer; ADD retries every minute.
const (
	firstRetry = 5 * time.Second
	// LastRetry is the longest delay between two attempts.
	LastRetry   = 5 * time.Minute
	absentRetry = time.Minute // the longest delay if a peer has no IKE SA with this host
	// answerTime is how long the peer may take to answer after conns were loaded.
	answerTime = 2 * time.Second
)

// Schedule is the schedule by which stalled conns are initiated again. It has the fields of state.Retry.
type Schedule struct {
	Changed time.Time     // when conns were loaded last
	Delay   time.Duration // between the last two attempts
	Next    time.Time
}

// JustLoaded returns the schedule for conns that were just loaded: they have been initiated, or the daemon is about to
// initiate them.
func JustLoaded(now time.Time) Schedule {
	return Schedule{Changed: now, Next: now.Add(answerTime)}
}

// valid returns the recorded schedule, or an empty one if the clock was set back after it was recorded.
func (s Schedule) valid(now time.Time) Schedule {
	if s.Changed.After(now) || s.Next.After(now.Add(LastRetry)) {
		return Schedule{}
	}
	return s
}

// due reports whether stalled conns have to be initiated now. If so, it schedules the next attempt, with a delay of at
// most longest.
func (s *Schedule) due(now time.Time, longest time.Duration) bool {
	if now.Before(s.next(longest)) {
		return false
	}
	s.Delay = min(max(2*s.Delay, firstRetry), longest)
	s.Next = now.Add(s.Delay)
	return true
}

// next returns the time of the next attempt. The recorded delay may exceed the limit that applies now.
func (s *Schedule) next(longest time.Duration) time.Time {
	return s.Next.Add(-max(0, s.Delay-longest))
}

// Connections is what the retry of stalled conns depends on, apart from the schedule.
type Connections struct {
	Wanted []*config.Connection
	// Supported are the wanted connections that the kernel supports. Retrying the others is useless.
	Supported []*config.Connection
	Status    Status
}

// Retry returns the actions of an ADD for stalled conns and orphaned Child SAs, and the schedule after them.
// justLoaded means that this ADD has loaded conns and has recorded the schedule of JustLoaded.
func (c *Connections) Retry(recorded Schedule, justLoaded bool, now time.Time) ([]Action, Schedule) {
	s := recorded.valid(now)
	list := actions(OpTerminate, c.Status.Orphans)
	switch stalled := stalledConns(c.Supported, c.Status); {
	case justLoaded:
	case len(stalled) == 0:
		s.Delay, s.Next = 0, time.Time{}
	case s.due(now, maxRetryDelay(c.Wanted, c.Status, stalled)):
		list = slices.Concat(list, actions(OpTerminate, connsNeedingIKESA(c.Wanted, c.Status, stalled)),
			actions(OpInitiate, stalled))
	}
	return list, s
}

// NextADD returns how long to wait for the ADD that initiates stalled conns. stalled is false if there are none. The
// wait may be negative.
func (c *Connections) NextADD(recorded Schedule, now time.Time) (wait time.Duration, stalled bool) {
	s, conns := recorded.valid(now), stalledConns(c.Supported, c.Status)
	return s.next(maxRetryDelay(c.Wanted, c.Status, conns)).Sub(now), len(conns) > 0
}

// stalledConns returns the loaded conns that this end has to initiate, that are down, and for which no negotiation is
// in progress.
func stalledConns(wanted []*config.Connection, status Status) []string {
	var conns []string
	for _, c := range wanted {
		if c.ResponseOnly {
			continue
		}
		for _, pair := range c.Pairs() {
			conn, loaded := status.Conns[pair.Conn]
			if loaded && !status.Up[pair.Conn] && !conn.Negotiating {
				conns = append(conns, pair.Conn)
			}
		}
	}
	return conns
}

// maxRetryDelay returns the longest delay between two attempts to initiate these stalled conns.
func maxRetryDelay(wanted []*config.Connection, status Status, stalled []string) time.Duration {
	present := peersWithIKE(wanted, status)
	for _, c := range wanted {
		if !present[c.PeerAddress] && hasConnIn(c, stalled) {
			return absentRetry
		}
	}
	return LastRetry
}

// hasConnIn reports whether a connection has one of these conns.
func hasConnIn(c *config.Connection, conns []string) bool {
	return slices.ContainsFunc(c.Pairs(), func(p config.Pair) bool { return slices.Contains(conns, p.Conn) })
}

// peersWithIKE returns the peers that have an established IKE SA with this host.
func peersWithIKE(wanted []*config.Connection, status Status) map[netip.Addr]bool {
	present := map[netip.Addr]bool{}
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if status.Conns[pair.Conn].IKE {
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
func connsNeedingIKESA(wanted []*config.Connection, status Status, stalled []string) []string {
	present, dead := peersWithIKE(wanted, status), map[netip.Addr]bool{}
	for _, c := range wanted {
		if present[c.PeerAddress] && hasConnIn(c, stalled) {
			dead[c.PeerAddress] = true
		}
	}
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if status.Up[pair.Conn] || status.Conns[pair.Conn].Negotiating || c.IKE.Version != "v2" || c.IPsec.NoPFS {
				dead[c.PeerAddress] = false
			}
		}
	}
	var conns []string
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if _, loaded := status.Conns[pair.Conn]; loaded && dead[c.PeerAddress] {
				conns = append(conns, pair.Conn)
			}
		}
	}
	return conns
}
