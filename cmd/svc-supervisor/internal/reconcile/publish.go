package reconcile

import (
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// greet reports a container that runs, once after its ADD or after the start, before anything slow: it may never settle.
func (r *Reconciler) reportRunningOnce(s *snapshot, m *memory, d Decision) {
	if !m.runningReported && d.Rule > ruleBroken && d.Step != Delete && s.facts.runs() && s.facts.wanted() {
		m.runningReported = true
		r.publish(s.record().Container, m)
		r.reportRunning(s, m)
	}
}

// heldElsewhere says whether a record of another name, or another binding of another name, has the container id: then that
// one answers for its status.
func (r *Reconciler) heldElsewhere(id spec.ContainerID, name spec.Name, binding *spec.Binding) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.holders.byContainer[id] {
		if other != name && !r.holders.byName[other].deleted {
			return true
		}
	}
	if r.claims == nil {
		return true
	}
	for _, b := range r.claims.byContainer[id] {
		if b != binding && b.Container.InterfaceName != name {
			return true
		}
	}
	return false
}

// publish notes whose status the name answers for; the status of a container id that it answered for before is removed.
func (r *Reconciler) publish(c spec.Container, m *memory) {
	if m.published != "" && m.published != c.ContainerID {
		r.unpublish(c.InterfaceName, m)
	}
	m.published = c.ContainerID
}

// unpublish removes the status that the name answers for. If another name or binding has its container id by now it stays
// for as long.
func (r *Reconciler) unpublish(name spec.Name, m *memory) {
	if !r.heldElsewhere(m.published, name, nil) {
		r.report.Remove(m.published)
	} else {
		r.mu.Lock()
		r.unownedStatuses[m.published] = true
		r.mu.Unlock()
	}
	m.published = ""
}
