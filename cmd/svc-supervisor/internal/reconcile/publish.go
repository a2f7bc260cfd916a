package reconcile

import (
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// reportRunningOnce reports a running container as RUNNING once after its ADD or after the start of the supervisor. It
// does so before any step that may take long, because the container may not settle for a long time.
func (r *Reconciler) reportRunningOnce(s *snapshot, m *memory, d decide.Decision) {
	if !m.runningReported && d.Condition == decide.Running && d.Step != decide.Delete && s.Facts.IsWanted() {
		m.runningReported = true
		r.publish(s.Record().Container, m)
		r.reportRunning(s, m)
	}
}

// heldElsewhere reports whether a record or a binding of another name has the container id. Then the worker of that
// name publishes the status of the container.
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

// publish records that the name publishes the status of container c. If the name published the status of another
// container before, that status is removed.
func (r *Reconciler) publish(c spec.Container, m *memory) {
	if m.published != "" && m.published != c.ContainerID {
		r.unpublish(c.InterfaceName, m)
	}
	m.published = c.ContainerID
}

// unpublish removes the status that the name publishes. If another name or binding has the same container id, the
// status stays until that is no longer the case.
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

// reportUnstable publishes the status of a container that fails repeatedly. It returns false for any other container.
func (r *Reconciler) reportUnstable(s *snapshot, m *memory) bool {
	reason := m.crashes.reason()
	if reason == "" {
		return false
	}
	c := s.Container()
	if s.Claim.Binding != nil {
		c = s.Claim.Binding.Container
	}
	r.publish(c, m)
	r.report.Unstable(c, reason, m.crashes.isError)
	return true
}
