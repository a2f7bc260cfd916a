package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/report"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// MarkStuck marks the names that wait for something that no event tells of: a name that another program gives up.
func (r *Reconciler) MarkStuck(ctx context.Context) {
	r.applying.Lock()
	r.reportRejected() // a status may have been another's when they were reported last
	r.prune(ctx)       // it may have failed
	r.applying.Unlock()
	r.markHeld(HeldTaken)
	r.markHeld(HeldLeftover)
}

// markHeld marks the names that are held for a reason that may have gone; also those that a worker has, which may be about
// to find themselves held.
func (r *Reconciler) markHeld(hold Hold) {
	r.mu.Lock()
	var held []spec.Name
	for name, m := range r.memories {
		if m.row.Hold == hold || r.queue.isBusy(name) {
			held = append(held, name)
		}
	}
	r.mu.Unlock()
	for _, name := range held {
		r.Mark(name)
	}
}

// reportHeld reports a container that is wanted, does not run, and waits for something. A back-off is the consequence of a
// failure that was reported when it happened; it is looked at again for containers that take too long to heal.
func (r *Reconciler) reportHeld(s *snapshot, m *memory, d Decision, now time.Time) {
	if m.downSince.IsZero() {
		m.downSince = now
	}
	undoing := d.Hold == HeldBackOff && m.waitsFor(s) == Delete
	if d.Hold == HeldBackOff && !m.ran && !undoing {
		return
	}
	if d.Hold == HeldBackOff && m.broken != "" && m.failure[Add] == m.broken && m.crashes.isError {
		r.reportUnstable(s, m) // with more than the reason of the DEL
		return
	}
	if r.mayBeFoundLater(d) {
		return
	}
	c := s.claim.binding.Container
	r.publish(c, m)
	if d.Hold == HeldTaken && r.heldElsewhere(c.ContainerID, s.name, nil) {
		return // never over the status of another name's container
	}
	reason := r.reason(s, m, d)
	if d.Hold == HeldBackOff {
		reason = m.failure[m.waitsFor(s)] // as it was published when the step failed
	}
	// A first ADD that cannot be undone is as far from its next try as one that is healed.
	r.report.Failing(c, report.Problem{Reason: reason, Ran: m.ran || undoing, For: now.Sub(m.downSince)})
}

// mayBeFoundLater says whether the executable that is missed may yet be found.
func (r *Reconciler) mayBeFoundLater(d Decision) bool {
	return d.Hold == HeldNoExecutable && !r.executables.Scanned()
}

// logHeld logs a hold when it begins, and when its reason changes.
func (r *Reconciler) logHeld(s *snapshot, m *memory, d Decision) {
	text := ""
	if d.Hold != NotHeld && d.Hold != HeldBackOff { // the failure was logged with its delay
		text = r.reason(s, m, d)
	}
	if text == notReadYet || r.mayBeFoundLater(d) {
		return // as at every start
	}
	if text == m.heldLogged {
		return
	}
	m.heldLogged = text
	if text == "" {
		return
	}
	fields := []any{"container", s.name, "reason", text}
	if d.Hold == HeldSlot {
		r.mu.Lock()
		fields = append(fields, "weight", r.host.Weight, "limit", r.host.Limit, "count", len(r.slots))
		r.mu.Unlock()
	}
	r.log.Warn("container held", fields...)
}

// reason says in one line why a container is held.
func (r *Reconciler) reason(s *snapshot, m *memory, d Decision) string {
	switch d.Hold {
	case HeldUnread:
		if s.claim.unread != "" {
			return s.claim.unread
		}
		return s.problem
	case HeldNewer:
		return s.problem
	case HeldNoExecutable:
		return fmt.Sprintf("no executable serves type %s", s.serviceType())
	case HeldNotReady:
		return fmt.Sprintf("%s: %s", s.toAdd.Path, s.toAdd.Unready)
	case HeldTaken:
		return s.claim.taken
	case HeldLeftover:
		return "what is left under the name stays until every binding of the host can be read"
	case HeldSlot:
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.host.Weight == 0 {
			return spec.WeightZero
		}
		return spec.LimitExceeded
	case HeldBackOff:
		step := m.waitsFor(s)
		if step == Add && m.broken != "" {
			return m.broken + "; ADD follows after a delay"
		}
		return fmt.Sprintf("%v failed, tried again: %s", step, m.failure[step])
	}
	return ""
}
