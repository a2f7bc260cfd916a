package reconcile

import (
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// reserve says whether the name has a slot, or gets one. A name with a record has its own: neither a lowered limit nor a
// weight of zero concerns it.
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

// release gives the slot back when the name has no record any more, and lets those look again that wait for one.
func (r *Reconciler) release(name spec.Name) {
	r.mu.Lock()
	had := r.slots[name]
	delete(r.slots, name)
	r.mu.Unlock()
	if had {
		r.reportHost()
		r.markHeld(HeldSlot)
	}
}
