package reconcile

import (
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// news is what was pushed of a container's health and is not yet in its memo.
type news struct {
	connections []spec.Connection
	heard       bool
	againAt     time.Time // when the last of it asks for ADD again; zero: it does not
}

// newsLimit bounds the connections that wait for a worker. What does not fit is found by CHECK.
const newsLimit = 4096

// Heard takes in health that was pushed. It is shown and published at once, whatever the container's worker is doing; the
// worker, which may have an older answer of the executable on its way, puts it over that. Of a container without a record
// nothing is heard.
func (r *Reconciler) Heard(pushed *spec.Health) {
	name := pushed.InterfaceName
	r.mu.Lock()
	m, holder := r.memos[name], r.holders[name]
	if m == nil || holder.container == "" || holder.deleted {
		r.mu.Unlock()
		return
	}
	if len(m.pushed.connections)+len(pushed.Connections) <= newsLimit {
		m.pushed.connections = append(m.pushed.connections, pushed.Connections...)
	}
	m.pushed.heard, m.pushed.againAt = true, time.Time{}
	if pushed.Again != nil {
		m.pushed.againAt = time.Now().Add(time.Duration(pushed.Again.After) * time.Second)
	}
	if m.row.Health != nil {
		m.row.Health = m.row.Health.With(pushed.Connections)
	}
	r.report.Pushed(holder.container, pushed.Connections)
	r.mu.Unlock()
	r.Mark(name)
}

// takeNewsLocked puts what was pushed over what ADD or CHECK told. If those told nothing yet, one push is not the whole: a
// CHECK is due, which tells all.
func (r *Reconciler) takeNewsLocked(m *memo) {
	switch {
	case len(m.pushed.connections) == 0:
	case m.health == nil:
		m.checkAt = time.Now()
	default:
		m.health = m.health.With(m.pushed.connections)
	}
	if m.pushed.heard { // a tunnel that is back needs no more what was asked for when it went down
		m.pushedAgainAt = m.pushed.againAt
	}
	m.pushed = news{}
}

// reportRunning reports a container that runs, with all that was heard of it: what is heard later is reported later.
func (r *Reconciler) reportRunning(c spec.Container, m *memo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takeNewsLocked(m)
	r.report.Running(c, m.health)
}
