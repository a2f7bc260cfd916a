package reconcile

import (
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// goodCheck describes the last CHECK, if it was good and reported health.
type goodCheck struct {
	at      time.Time        // when the container was observed before this CHECK
	packets *observe.Packets // the counters at that time; nil: unknown
	idle    bool             // no packet passed between the CHECK before, which was also good, and this one
}

func newGoodCheck(s *snapshot, last *goodCheck) *goodCheck {
	idle := last != nil && last.packets != nil && s.Packets != nil && *s.Packets == *last.packets
	return &goodCheck{s.now, s.Packets, idle}
}

// idleIntervals is the number of intervals after which CHECK runs in any case.
const idleIntervals = 10

// checkDue reports whether CHECK is due because of an event, because the interval has passed, or because a connection
// is down. Each CHECK starts a process. Therefore a CHECK that can find nothing new is postponed. This is possible only
// while the supervisor is subscribed to both kinds of events.
//
//   - The CHECK at the interval is postponed in two cases: all connections are up, since one that goes down causes an
//     event; or the container has received no packet since the last CHECK, so its daemon cannot have learnt anything
//     from a peer.
//   - The CHECK for a connection that is down is postponed if no packet has passed since the last CHECK, nor between
//     that CHECK and the one before it. Then the daemon has stopped trying to connect, so the reason does not change.
func (r *Reconciler) checkDue(s *snapshot, m *memory) bool {
	intervalOver := !m.checkAt.IsZero() && !s.now.Before(m.checkAt)
	downCheck := !m.extraCheckAt.IsZero() && !s.now.Before(m.extraCheckAt)
	mayPostpone := (intervalOver || downCheck) && r.mayPostpone(s, m)
	if mayPostpone && intervalOver && (allUp(m.health) || !m.extraCheckAt.IsZero() && s.Packets.In == m.good.packets.In) {
		m.checkAt, intervalOver = r.nextCheck(), false
	}
	if mayPostpone && downCheck && m.good.idle && *s.Packets == *m.good.packets {
		m.extraCheckAt, downCheck = m.down.postpone(s.now), false
	}
	return intervalOver || downCheck || r.eventChecks.due(s.Name, s.now)
}

// mayPostpone reports whether the last CHECK was good and recent enough, and the supervisor has missed no event since.
func (r *Reconciler) mayPostpone(s *snapshot, m *memory) bool {
	return s.Packets != nil && m.good != nil && m.good.packets != nil &&
		m.health != nil && m.health.Code == spec.Running &&
		s.now.Sub(m.checked) < idleIntervals*r.settings.CheckInterval-r.settings.CheckInterval/2 &&
		r.eventChecks.subscribedSince(s.Name, m.good.at)
}

func allUp(h *spec.Health) bool {
	return !slices.ContainsFunc(h.Connections, func(c spec.Connection) bool { return c.Status == spec.Down })
}
