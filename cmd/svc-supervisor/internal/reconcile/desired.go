package reconcile

import (
	"maps"
	"slices"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// desired holds the desired state of this host, and what the records hold of it: names, ports, container ids and slots.
// One lock protects all of it, because which binding gets a name, and whether it gets a slot, depends on both. Its
// methods call nothing outside, so they may be called with any other lock held.
type desired struct {
	mu         sync.Mutex
	claims     *claims // nil until the NSDB has been read; a value is never changed
	host       spec.Host
	holders    *holders
	slots      map[spec.Name]bool        // names with a record of any phase or with a reservation
	others     map[spec.ContainerID]bool // containers of the last desired state whose type another service serves
	duplicates duplicates
	draining   bool
}

func newDesired() *desired {
	return &desired{holders: newHolders(), slots: map[spec.Name]bool{}}
}

// set replaces the desired state. others are the containers whose type another service serves. It returns the index of
// the former desired state, nil if there was none, and that of the new one. After drain it returns false and changes
// nothing.
func (d *desired) set(state spec.Desired, others map[spec.ContainerID]bool) (was, is *claims, ok bool) {
	is = sortClaims(&state)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return nil, nil, false
	}
	d.others = others
	was = d.claims
	switch {
	case state.Unread == "":
		is.duplicates = d.duplicates.find(state.Bindings)
	case was != nil:
		is.duplicates = was.duplicates
	}
	d.claims = is
	if state.Unread == "" {
		d.host = state.Host
	}
	return was, is, true
}

// drain sets an empty desired state for good.
func (d *desired) drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claims = sortClaims(&spec.Desired{})
	d.draining = true
}

// current returns the index of the desired state, or nil if the NSDB has not been read.
func (d *desired) current() *claims {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.claims
}

// allRead reports whether the host and every binding could be read.
func (d *desired) allRead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.claims.allRead()
}

// claim returns what the NSDB contains for a name. last is the port of the last binding of the name: if a
// name without a record had a binding that is unread now, it is unknown whether the name is wanted.
func (d *desired) claim(name spec.Name, last spec.PortID) observe.Claim {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claims == nil {
		return observe.Claim{Unread: notReadYet, AnyUnread: true}
	}
	claim := d.claims.claim(name, d.holders)
	claim.AnyUnread = !d.claims.allRead()
	if claim.Binding != nil {
		claim.Notes = d.claims.notes(claim.Binding)
	} else if reason, unread := d.claims.unreadPorts[last]; unread {
		claim.Unread = reason
	}
	return claim
}

// mayBeWanted reports whether a name is wanted, or whether that is unknown.
func (d *desired) mayBeWanted(name spec.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	claim := d.claims.claim(name, d.holders)
	return claim.Binding != nil || claim.Unread != ""
}

// rejected returns the bindings that no worker handles, and whether a binding could not be read. known is false if the
// host is unknown.
func (d *desired) rejected() (list []rejection, anyUnread, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claims == nil || d.claims.unread != "" {
		return nil, false, false
	}
	return d.claims.rejected(d.holders), d.claims.anyUnread, true
}

// containers returns the container ids that have a record or a binding, and those whose type another service serves.
// known is false if not all of them are known, and after drain.
func (d *desired) containers() (ours, others map[spec.ContainerID]bool, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining || !d.claims.allRead() {
		return nil, nil, false
	}
	ours = map[spec.ContainerID]bool{}
	for _, h := range d.holders.byName {
		ours[h.container] = true
	}
	for id := range d.claims.byContainer {
		ours[id] = true
	}
	return ours, d.others, true
}

// heldElsewhere reports whether a record of another name or another binding has the container id. Then the worker of
// that name publishes the status of the container. It returns true before the NSDB has been read.
func (d *desired) heldElsewhere(id spec.ContainerID, name spec.Name, binding *spec.Binding) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for other := range d.holders.byContainer[id] {
		if other != name && !d.holders.byName[other].deleted {
			return true
		}
	}
	if d.claims == nil {
		return true
	}
	for _, b := range d.claims.byContainer[id] {
		if b != binding && b.Container.InterfaceName != name {
			return true
		}
	}
	return false
}

// recall stores what the record of a name holds after a start. record is nil if it could not be read. Then container is
// the container id of the owner tag of its namespace, or "".
func (d *desired) recall(name spec.Name, record *statedir.Record, container spec.ContainerID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots[name] = true
	switch {
	case record != nil:
		d.holders.set(name, holderOf(record))
	case container != "":
		d.holders.set(name, holder{container: container})
	}
}

// learn stores what the record of a name holds, if that is not known because the record could not be read at the start.
// It reports whether it was not known.
func (d *desired) learn(name spec.Name, record *statedir.Record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.holders.byName[name]; known.port != "" {
		return false
	}
	d.slots[name] = true
	d.holders.set(name, holderOf(record))
	return true
}

// recorded stores what a record that was written holds.
func (d *desired) recorded(record *statedir.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots[record.Container.InterfaceName] = true
	d.holders.set(record.Container.InterfaceName, holderOf(record))
}

// forget removes what the record of a name held. The name keeps its slot until release.
func (d *desired) forget(name spec.Name) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holders.remove(name)
}

// holder returns what the record of a name holds; zero if it has no record.
func (d *desired) holder(name spec.Name) holder {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.holders.byName[name]
}

// recordedNames returns the names whose record describes a container.
func (d *desired) recordedNames() map[spec.Name]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := map[spec.Name]bool{}
	for name, h := range d.holders.byName {
		if !h.deleted {
			names[name] = true
		}
	}
	return names
}

// namesOfPort returns the names whose records have the port.
func (d *desired) namesOfPort(port spec.PortID) []spec.Name {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.holders.byPort[port]))
}

// hasRecordOf reports whether a record has the container id.
func (d *desired) hasRecordOf(id spec.ContainerID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.holders.byContainer[id]) > 0
}

// reserve reserves a slot for the name and reports whether it has one. A name with a record keeps its slot, even if the
// limit is lowered or the weight becomes 0.
func (d *desired) reserve(name spec.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slots[name] {
		return true
	}
	if d.host.Weight == 0 || d.host.Limit >= 0 && len(d.slots) >= d.host.Limit {
		return false
	}
	d.slots[name] = true
	return true
}

// hasSlot reports whether the name has a record of any phase, or is about to get one.
func (d *desired) hasSlot(name spec.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.slots[name]
}

// release releases the slot of a name that has no record any more. It reports whether the name had one.
func (d *desired) release(name spec.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	had := d.slots[name]
	delete(d.slots, name)
	return had
}

// hostStatus returns the host object as it was read last, and the status of the host.
func (d *desired) hostStatus() (spec.Host, spec.HostStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	status := spec.HostStatus{Weight: d.host.Weight, Quota: -1, Count: len(d.slots)}
	if d.host.Limit >= 0 {
		status.Quota = max(0, d.host.Limit-len(d.slots))
	}
	return d.host, status
}

func holderOf(record *statedir.Record) holder {
	return holder{record.Container.PortID, record.Container.ContainerID, record.Phase == statedir.Deleted}
}
