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

// ApplyPushedHealth applies pushed health. It is shown and published at once, also while a verb of the container runs. The answer
// of that verb may be older, so the worker applies the push again after it. Pushes for containers without a record are
// dropped.
func (r *Reconciler) ApplyPushedHealth(pushed *spec.Health) {
	name := pushed.InterfaceName
	r.memories.mu.Lock()
	holder := r.desired.holder(name)
	if holder.container == "" || holder.deleted {
		r.memories.mu.Unlock()
		return
	}
	m := r.memories.getLocked(name) // after a start the name may not have been observed yet
	if len(m.pushed.connections)+len(pushed.Connections) <= pushedLimit {
		m.pushed.connections = append(m.pushed.connections, pushed.Connections...)
	} else {
		m.pushed.lost = true
	}
	m.pushed.received, m.pushed.againAt = true, time.Time{}
	if pushed.Again != nil {
		m.pushed.againAt = time.Now().Add(time.Duration(pushed.Again.After) * time.Second)
	}
	r.connections.pushedLocked(name, m, pushed.Connections)
	if m.row.Health != nil {
		m.row.Health = m.row.Health.With(pushed.Connections)
	}
	r.report.MergeConnections(holder.container, pushed.Connections)
	r.memories.mu.Unlock()
	r.Mark(name)
}

// applyPushedLocked applies pushed health on top of what ADD or CHECK reported. If they have not reported anything yet,
// or connections were dropped, it makes a CHECK due, which reports all connections. A CHECK or reconfiguration that a
// push asks for runs no sooner than pushedGap after the last verb of its kind.
func (m *memory) applyPushedLocked() {
	if m.pushed.lost || len(m.pushed.connections) > 0 && m.health == nil {
		at := later(time.Now(), m.checked.Add(pushedGap))
		if m.extraCheckAt.IsZero() || at.Before(m.extraCheckAt) {
			m.extraCheckAt = at
		}
		m.good = nil
	}
	if m.health != nil && len(m.pushed.connections) > 0 {
		m.health = m.health.With(m.pushed.connections)
	}
	// A connection that is up again no longer needs the reconfiguration that was asked for when it went down.
	if m.pushed.received {
		m.pushedAgainAt = m.pushed.againAt
		if !m.pushedAgainAt.IsZero() {
			m.pushedAgainAt = later(m.pushedAgainAt, m.added.Add(pushedGap))
		}
	}
	m.pushed = pushedHealth{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
