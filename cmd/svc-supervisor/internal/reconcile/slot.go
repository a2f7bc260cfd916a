package reconcile

import (
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// reserve reserves a slot for the name and reports whether it has one. A name with a record keeps its slot, even if the
// limit is lowered or the weight becomes 0.
func (r *Reconciler) reserve(name spec.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots[name] {
		return true
	}
	if r.host.Weight == 0 || r.host.Limit >= 0 && len(r.slots) >= r.host.Limit {
		return false
	}
	r.slots[name] = true
	return true
}

// hasSlot reports whether the name has a record of any phase, or is about to get one.
func (r *Reconciler) hasSlot(name spec.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slots[name]
}

// release releases the slot of a name that has no record any more, and marks the names that wait for a slot.
func (r *Reconciler) release(name spec.Name) {
	r.mu.Lock()
	had := r.slots[name]
	delete(r.slots, name)
	r.mu.Unlock()
	if had {
		r.reportHost()
		r.markHeld(decide.HeldSlot)
	}
}
