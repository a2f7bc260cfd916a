package reconcile

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// goodCheck describes the last CHECK, if it was good and reported health.
type goodCheck struct {
	at      time.Time        // when the container was observed before this CHECK
	packets *observe.Packets // the counters at that time; nil: unknown
	idle    bool             // no packet passed between the previous CHECK, which was also good, and this one
}

func newGoodCheck(s *snapshot, last *goodCheck) *goodCheck {
	idle := last != nil && last.packets != nil && s.Packets != nil && *s.Packets == *last.packets
	return &goodCheck{s.now, s.Packets, idle}
}

// checkState has the results of the last CHECKs of a container, and the times at which the next ones are due.
type checkState struct {
	at time.Time // when the CHECK at the interval is due
	// extraAt is when an additional CHECK is due because a connection is down or a push is incomplete; zero: none.
	extraAt time.Time
	ended   time.Time // when the last CHECK ended
	good    *goodCheck
	down    downPace
	unknown unknownState

	errors    int       // number of errors of CHECK in a row that count
	lastError string    // the last error of CHECK
	countedAt time.Time // when the last counted error of CHECK occurred
}

// noteError records an error of CHECK. Events can make CHECKs follow each other closely. Therefore an error does not
// count if it occurs less than pause after one that counts: a fault that disappears within that time is ignored. The
// next CHECK is due when its error would count, and after the second one at next.
func (c *checkState) noteError(answer *spec.Error, now time.Time, pause time.Duration, next time.Time) {
	c.lastError = answer.Error()
	if c.errors == 0 || now.Sub(c.countedAt) >= pause {
		c.errors++
		c.countedAt = now
	}
	c.at = c.countedAt.Add(pause)
	if c.errors > 1 { // while STATUS is bad, no DEL follows
		c.at = next
	}
}

// checkSchedule decides when CHECK is due.
type checkSchedule struct {
	interval time.Duration
	events   *eventChecks
}

// next returns the time of the next CHECK. It varies by a tenth of the interval, so that the CHECKs of many
// containers do not run at the same time.
func (c *checkSchedule) next() time.Time {
	tenth := c.interval / 10
	return time.Now().Add(c.interval - tenth/2 + rand.N(max(tenth, 1)))
}

// idleIntervals is the number of intervals after which CHECK runs in any case.
const idleIntervals = 10

// isDue reports whether CHECK is due because of an event, because the interval has passed, or because a connection
// is down. Each CHECK starts a process. Therefore a CHECK that can find nothing new is postponed. This is possible only
// while the supervisor is subscribed to both kinds of events.
//
//   - The CHECK at the interval is postponed in two cases: all connections are up, since one that goes down causes an
//     event; or the container has received no packet since the last CHECK, so its daemon cannot have learnt anything
//     from a peer.
//   - The CHECK for a connection that is down is postponed if no packet has passed since the last CHECK, nor between
//     that CHECK and the one before it. Then the daemon has stopped trying to connect, so the reason does not change.
func (c *checkSchedule) isDue(s *snapshot, m *memory) bool {
	intervalOver := !m.checks.at.IsZero() && !s.now.Before(m.checks.at)
	downCheck := !m.checks.extraAt.IsZero() && !s.now.Before(m.checks.extraAt)
	mayPostpone := (intervalOver || downCheck) && c.mayPostpone(s, m)
	if mayPostpone && intervalOver &&
		(allUp(m.health) || !m.checks.extraAt.IsZero() && s.Packets.In == m.checks.good.packets.In) {
		m.checks.at, intervalOver = c.next(), false
	}
	if mayPostpone && downCheck && m.checks.good.idle && *s.Packets == *m.checks.good.packets {
		m.checks.extraAt, downCheck = m.checks.down.postpone(s.now), false
	}
	return intervalOver || downCheck || c.events.due(s.Name, s.now)
}

// mayPostpone reports whether the last CHECK was good and recent enough, and the supervisor has missed no event since.
func (c *checkSchedule) mayPostpone(s *snapshot, m *memory) bool {
	return s.Packets != nil && m.checks.good != nil && m.checks.good.packets != nil &&
		m.health != nil && m.health.Code == spec.Running &&
		s.now.Sub(m.checks.ended) < idleIntervals*c.interval-c.interval/2 &&
		c.events.subscribedSince(s.Name, m.checks.good.at)
}

func allUp(h *spec.Health) bool {
	return !slices.ContainsFunc(h.Connections, func(c spec.Connection) bool { return c.Status == spec.Down })
}
