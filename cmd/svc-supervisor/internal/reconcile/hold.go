package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/report"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// MarkStuck marks the names that are held for a reason whose end causes no event, for example a name that another
// program uses.
func (r *Reconciler) MarkStuck(ctx context.Context) {
	r.applying.Lock()
	r.statuses.reportRejected() // a status may have belonged to another binding before
	r.statuses.prune(ctx)       // the last attempt may have failed
	r.applying.Unlock()
	r.markHeld(decide.HeldTaken)
	r.markHeld(decide.HeldLeftover)
}

// markHeld marks the names that are held for a reason that may no longer apply. It also marks the names that a worker
// has, because the worker may be about to find that they are held.
func (r *Reconciler) markHeld(hold decide.Hold) {
	r.memories.mu.Lock()
	var held []spec.Name
	for name, m := range r.memories.byName {
		if m.row.Hold == hold || r.queue.isBusy(name) {
			held = append(held, name)
		}
	}
	r.memories.mu.Unlock()
	for _, name := range held {
		r.Mark(name)
	}
}

// reportHeld reports a wanted container that does not run and is held. The failure that started a back-off was already
// reported when it occurred. It is reported here again only for containers whose healing takes too long.
func (r *Reconciler) reportHeld(s *snapshot, m *memory, d decide.Decision, now time.Time) {
	if m.downSince.IsZero() {
		m.downSince = now
	}
	undoing := d.Hold == decide.HeldBackOff && m.waitsFor(s) == decide.Delete
	if d.Hold == decide.HeldBackOff && !m.ran && !undoing {
		return
	}
	if d.Hold == decide.HeldBackOff && m.broken != "" && m.failure[decide.Add] == m.broken && m.crashes.isError {
		r.reportUnstable(s, m) // publishes the number of failures too, not only the reason of the DEL
		return
	}
	if mayBeFoundLater(s, d) {
		return
	}
	c := s.Claim.Binding.Container
	r.statuses.publish(c, m)
	if d.Hold == decide.HeldTaken && r.desired.heldElsewhere(c.ContainerID, s.Name, nil) {
		return // the status belongs to the container of another name
	}
	reason := r.reason(s, m, d)
	if d.Hold == decide.HeldBackOff {
		reason = m.failure[m.waitsFor(s)] // the text that was published when the step failed
	}
	// A first ADD whose DEL fails is treated like healing: its next ADD is as far away.
	r.report.Failing(c, report.Problem{Reason: reason, Ran: m.ran || undoing, For: now.Sub(m.downSince)})
}

// mayBeFoundLater reports whether the missing executable may still be found, because the plugin path was not read
// completely.
func mayBeFoundLater(s *snapshot, d decide.Decision) bool {
	return d.Hold == decide.HeldExecutableUnknown || d.Hold == decide.HeldNoExecutable && s.Facts.PluginsUnscanned
}

// logHeld logs a hold when it begins and when its reason changes.
func (r *Reconciler) logHeld(s *snapshot, m *memory, d decide.Decision) {
	text := ""
	if d.Hold != decide.NotHeld && d.Hold != decide.HeldBackOff { // the failure was logged together with its delay
		text = r.reason(s, m, d)
	}
	if text == notReadYet || mayBeFoundLater(s, d) {
		return // this is normal at every start
	}
	if text == m.heldLogged {
		return
	}
	m.heldLogged = text
	if text == "" {
		return
	}
	fields := []any{"container", s.Name, "reason", text}
	if d.Hold == decide.HeldSlot {
		host, status := r.desired.hostStatus()
		fields = append(fields, "weight", host.Weight, "limit", host.Limit, "count", status.Count)
	}
	r.log.Warn("container held", fields...)
}

// reason returns in one line why a container is held.
func (r *Reconciler) reason(s *snapshot, m *memory, d decide.Decision) string {
	switch d.Hold {
	case decide.HeldUnread:
		return s.Claim.Unread
	case decide.HeldNewer, decide.HeldRecordUnreadable, decide.HeldDamaged:
		return s.RecordProblem
	case decide.HeldHostUnreadable:
		return s.HostProblem
	case decide.HeldShutdown:
		return "the host is shutting down"
	case decide.HeldNoExecutable:
		return fmt.Sprintf("no executable serves type %s", s.ServiceType())
	case decide.HeldExecutableUnknown:
		return "the plugin path was not read completely, so an executable for this container may still be found"
	case decide.HeldNotReady:
		return fmt.Sprintf("%s: %s", s.ForAdd.Path, s.ForAdd.Unready)
	case decide.HeldTaken:
		return s.Claim.Taken
	case decide.HeldLeftover:
		if !s.Facts.AnyUnread {
			return "what is left under the name stays until the plugin path is read completely"
		}
		return "what is left under the name stays until every binding of the host can be read"
	case decide.HeldSlot:
		if host, _ := r.desired.hostStatus(); host.Weight == 0 {
			return spec.WeightZero
		}
		return spec.LimitExceeded
	case decide.HeldBackOff:
		step := m.waitsFor(s)
		if step == decide.Add && m.broken != "" {
			return m.broken + "; ADD follows after a delay"
		}
		return fmt.Sprintf("%v failed, tried again: %s", step, m.failure[step])
	}
	return ""
}
