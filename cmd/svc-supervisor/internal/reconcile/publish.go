package reconcile

import "github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"

// reportRunningOnce reports a running container as RUNNING once after its ADD or after the start of the supervisor. It
// does so before any step that may take long, because the container may not settle for a long time.
func (r *Reconciler) reportRunningOnce(s *snapshot, m *memory, d decide.Decision) {
	if !m.runningReported && d.Condition == decide.Running && d.Step != decide.Delete && s.Facts.IsWanted() {
		m.runningReported = true
		r.statuses.publish(s.Record().Container, m)
		r.reportRunning(s, m)
	}
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
	r.statuses.publish(c, m)
	r.report.Unstable(c, reason, m.crashes.isError)
	return true
}
