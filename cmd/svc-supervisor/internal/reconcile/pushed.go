package reconcile

import (
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// news is what was pushed of a container's health and is not yet in its memo.
type pushedHealth struct {
	connections []spec.Connection
	received    bool
	lost        bool      // there were more than are kept
	againAt     time.Time // when the last of it asks for ADD again; zero: it does not
}

// pushedLimit bounds the connections that wait for a worker. Where they do not fit CHECK tells all of them.
const pushedLimit = 4096

// pushedGap is the time between a verb and the next one of the same kind that a push asks for. Without it a daemon
// that pushes all the time would have ADD or CHECK run all the time.
const pushedGap = 3 * time.Second

// Heard takes in health that was pushed. It is shown and published at once, whatever the container's worker is doing; the
// worker, which may have an older answer of the executable on its way, puts it over that. Of a container without a record
// nothing is heard.
func (r *Reconciler) Heard(pushed *spec.Health) {
	name := pushed.InterfaceName
	r.mu.Lock()
	holder := r.holders.byName[name]
	if holder.container == "" || holder.deleted {
		r.mu.Unlock()
		return
	}
	m := r.memoryLocked(name) // after a start it may not have been looked at yet
	if len(m.pushed.connections)+len(pushed.Connections) <= pushedLimit {
		m.pushed.connections = append(m.pushed.connections, pushed.Connections...)
	} else {
		m.pushed.lost = true
	}
	m.pushed.received, m.pushed.againAt = true, time.Time{}
	if pushed.Again != nil {
		m.pushed.againAt = time.Now().Add(time.Duration(pushed.Again.After) * time.Second)
	}
	r.logPushedLocked(name, m, pushed.Connections)
	if m.row.Health != nil {
		m.row.Health = m.row.Health.With(pushed.Connections)
	}
	r.report.Pushed(holder.container, pushed.Connections)
	r.mu.Unlock()
	r.Mark(name)
}

// applyPushedLocked puts what was pushed over what ADD or CHECK told. If those told nothing yet, or not all that was
// pushed is known, a CHECK is due, which tells all. What a push asks for comes no sooner than pushedGap after the
// last verb of its kind.
func (r *Reconciler) applyPushedLocked(m *memory) {
	if m.pushed.lost || len(m.pushed.connections) > 0 && m.health == nil {
		at := later(time.Now(), m.checked.Add(pushedGap))
		if m.soonAt.IsZero() || at.Before(m.soonAt) {
			m.soonAt = at
		}
		m.good = nil
	}
	if m.health != nil && len(m.pushed.connections) > 0 {
		m.health = m.health.With(m.pushed.connections)
	}
	if m.pushed.received { // a tunnel that is back needs no more what was asked for when it went down
		m.pushedAgainAt = m.pushed.againAt
		if !m.pushedAgainAt.IsZero() {
			m.pushedAgainAt = later(m.pushedAgainAt, m.added.Add(pushedGap))
		}
	}
	m.pushed = pushedHealth{}
}

// reportRunning reports a container that runs, with all that was heard of it: what is heard later is reported later.
func (r *Reconciler) reportRunning(s *snapshot, m *memory) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applyPushedLocked(m)
	if m.crashes.reason() == "" {
		r.report.Running(s.record().Container, m.health, m.notes...)
		return
	}
	if m.health != nil {
		r.report.Checked(s.record().Container.ContainerID, m.health.Connections)
	}
	r.report.Unstable(s.record().Container, m.crashes.reason(), m.crashes.isError)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
