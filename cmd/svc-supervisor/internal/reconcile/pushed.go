package reconcile

import (
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// pushedHealth is the part of pushed health that the worker has not applied yet.
type pushedHealth struct {
	connections []spec.Connection
	received    bool
	lost        bool      // connections were dropped because of pushedLimit
	againAt     time.Time // when the reconfiguration is due that the last push asked for; zero: none
}

// pushedLimit is the largest number of pushed connections that wait for a worker. If more are pushed, CHECK reads the
// state of all.
const pushedLimit = 4096

// pushedGap is the shortest time between a verb and the next one of the same kind that a push asks for. Without it, a
// daemon that pushes without end would make ADD or CHECK run without end.
const pushedGap = 3 * time.Second

// applyPushedLocked applies pushed health on top of what ADD or CHECK reported. If they have not reported anything yet,
// or connections were dropped, it makes a CHECK due, which reports all connections. A CHECK or reconfiguration that a
// push asks for runs no sooner than pushedGap after the last verb of its kind.
func (m *memory) applyPushedLocked() {
	if m.shared.pushed.lost || len(m.shared.pushed.connections) > 0 && m.health == nil {
		at := later(time.Now(), m.checks.ended.Add(pushedGap))
		if m.checks.extraAt.IsZero() || at.Before(m.checks.extraAt) {
			m.checks.extraAt = at
		}
		m.checks.good = nil
	}
	if m.health != nil && len(m.shared.pushed.connections) > 0 {
		m.health = m.health.With(m.shared.pushed.connections)
	}
	// A connection that is up again no longer needs the reconfiguration that was asked for when it went down.
	if m.shared.pushed.received {
		m.requests.fromPush = m.shared.pushed.againAt
		if !m.requests.fromPush.IsZero() {
			m.requests.fromPush = later(m.requests.fromPush, m.life.added.Add(pushedGap))
		}
	}
	m.shared.pushed = pushedHealth{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
