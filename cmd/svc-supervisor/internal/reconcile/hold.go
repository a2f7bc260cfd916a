package reconcile

import (
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// heldNames marks names that are held.
type heldNames struct {
	memories *memories
	queue    *queue
}

// mark marks the names that are held for a reason that may no longer apply. It also marks the names that a worker
// has, because the worker may be about to find that they are held.
func (h heldNames) mark(hold decide.Hold) {
	held := h.queue.busyNames()
	h.memories.mu.Lock()
	for name, m := range h.memories.byName {
		if m.shared.row.Hold == hold {
			held = append(held, name)
		}
	}
	h.memories.mu.Unlock()
	for _, name := range held {
		h.queue.mark(name)
	}
}

// reason returns in one line why a container is held.
func reason(desired *desired, s *snapshot, m *memory, d decide.Decision) string {
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
			return "leftovers of this name are kept until the plugin path is read completely"
		}
		return "leftovers of this name are kept until every binding of the host can be read"
	case decide.HeldSlot:
		if host, _ := desired.hostStatus(); host.Weight == 0 {
			return spec.WeightZero
		}
		return spec.LimitExceeded
	case decide.HeldBackOff:
		step := d.Waits
		if step == decide.Add && m.retries.broken != "" {
			return m.retries.broken + "; ADD follows after a delay"
		}
		return fmt.Sprintf("%v failed, will be retried: %s", step, m.retries.failure[step])
	}
	return ""
}
