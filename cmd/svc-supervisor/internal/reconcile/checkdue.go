package reconcile

import (
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// packets counts the packets that passed the container's interface since it was made, as the container sees them.
type packets struct{ in, out uint64 }

// goodCheck is what is kept of the last CHECK if it was good and reported health.
type goodCheck struct {
	at      time.Time // when the container was looked at before it
	packets *packets  // as counted then
	silent  bool      // none had passed since the CHECK before, which was good too
}

func newGoodCheck(s *snapshot, last *goodCheck) *goodCheck {
	silent := last != nil && last.packets != nil && s.packets != nil && *s.packets == *last.packets
	return &goodCheck{s.now, s.packets, silent}
}

// idleIntervals is how many intervals pass at most from one CHECK to the next.
const idleIntervals = 10

// checkDue says whether CHECK is due: because of an event, because the interval has passed, or because a connection is down. Each
// CHECK is a process, so one that can find nothing new is put off. That is possible only while both kinds of events are followed.
//
//   - At the interval: all connections are up, and one that goes down causes an event; or the container has received no packet since
//     the last CHECK, so its daemon can have learnt nothing from a peer.
//   - While a connection is down: no packet has passed since the last CHECK, and none had passed before it since the one before. So
//     the daemon does not try, and has given up what it tried, which changes the reason.
func (r *Reconciler) checkDue(s *snapshot, m *memory) bool {
	intervalOver := !m.checkAt.IsZero() && !s.now.Before(m.checkAt)
	downCheck := !m.soonAt.IsZero() && !s.now.Before(m.soonAt)
	mayPutOff := (intervalOver || downCheck) && r.mayPutOff(s, m)
	if mayPutOff && intervalOver && (allUp(m.health) || !m.soonAt.IsZero() && s.packets.in == m.good.packets.in) {
		m.checkAt, intervalOver = r.nextCheck(), false
	}
	if mayPutOff && downCheck && m.good.silent && *s.packets == *m.good.packets {
		m.soonAt, downCheck = m.down.postpone(s.now), false
	}
	return intervalOver || downCheck || r.eventChecks.due(s.name, s.now)
}

// mayPutOff says whether the last CHECK was good and not too long ago, and no event was missed since.
func (r *Reconciler) mayPutOff(s *snapshot, m *memory) bool {
	return s.packets != nil && m.good != nil && m.good.packets != nil && m.health != nil && m.health.Code == spec.Running &&
		s.now.Sub(m.checked) < idleIntervals*r.settings.CheckInterval-r.settings.CheckInterval/2 &&
		r.eventChecks.followsAllSince(s.name, m.good.at)
}

func allUp(h *spec.Health) bool {
	return !slices.ContainsFunc(h.Connections, func(c spec.Connection) bool { return c.Status == spec.Down })
}
