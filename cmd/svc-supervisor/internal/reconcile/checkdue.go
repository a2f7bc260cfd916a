package reconcile

import (
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// packets counts what a container received and sent through its interface since that was made.
type packets struct{ in, out uint64 }

// idleIntervals is how many intervals pass at most from one CHECK to the next.
const idleIntervals = 10

// checkDue says whether CHECK is due: because of an event, because the interval has passed, or because a connection is down. Each
// CHECK is a process, so one that can find nothing new is put off. That is known only where every kind of event leads to a CHECK.
//
//   - At the interval: all connections are up, and one that goes down causes an event; or the container has received no packet since
//     the last CHECK, so its daemon can have learnt nothing from a peer.
//   - While a connection is down: no packet went in or out, so the daemon did not even try, and the reason is the same.
func (r *Reconciler) checkDue(s *situation, m *memo) bool {
	interval := !m.checkAt.IsZero() && !s.now.Before(m.checkAt)
	soon := !m.soonAt.IsZero() && !s.now.Before(m.soonAt)
	unchanged := (interval || soon) && r.changesCauseEvents(s, m)
	if unchanged && interval && (allUp(m.health) || s.packets.in == m.packets.in) {
		m.checkAt, interval = r.nextCheck(), false
	}
	if unchanged && soon && *s.packets == *m.packets {
		m.soonAt, soon = m.down.later(s.now), false
	}
	return interval || soon || r.eventChecks.due(s.name, s.now)
}

// changesCauseEvents says whether the last CHECK was good, and not too long ago, and most changes since then caused an event.
func (r *Reconciler) changesCauseEvents(s *situation, m *memo) bool {
	return s.packets != nil && m.packets != nil && m.health != nil &&
		s.now.Sub(m.checked) < idleIntervals*r.settings.CheckInterval && r.eventChecks.followsAll(s.name)
}

func allUp(h *spec.Health) bool {
	return !slices.ContainsFunc(h.Connections, func(c spec.Connection) bool { return c.Status == spec.Down })
}
