package reconcile

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// String describes the world for the report of a failed test.
func (w *world) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var text strings.Builder
	for name := range w.disk {
		for _, entry := range w.readLocked(name) {
			fmt.Fprintf(&text, "record %s.%s: ", name, entry.ServiceType)
			if entry.Record != nil {
				fmt.Fprintln(&text, entry.Record.Phase)
			} else {
				fmt.Fprintln(&text, entry.Err)
			}
		}
	}
	fmt.Fprintf(&text, "namespaces %v\nlinks %v\nstatuses %v\n", w.namespaces, w.links, w.statusHistory)
	if w.current != nil {
		for _, row := range w.current.r.Rows() {
			fmt.Fprintf(&text, "%s: %s %s\n", row.Name, row.Status, row.Reason)
		}
	}
	fmt.Fprintf(&text, "effects %s", strings.Join(w.trace[max(0, len(w.trace)-40):], "; "))
	return text.String()
}

// differences returns all differences between actual and desired state. Once nothing is unread or refused, there must
// be none in the end.
func (w *world) differences() iter.Seq[string] {
	return func(yield func(string) bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		wanted := map[spec.Name]bool{}
		ids := map[spec.ContainerID]bool{}
		for _, b := range w.bindings {
			wanted[b.Container.InterfaceName], ids[b.Container.ContainerID] = true, true
			if text := w.differsLocked(&b); text != "" &&
				!yield(fmt.Sprintf("%s: %s", b.Container.InterfaceName, text)) {
				return
			}
		}
		var left []string
		for name := range w.disk {
			if !wanted[name] {
				left = append(left, "record "+string(name))
			}
		}
		for name, namespace := range w.namespaces {
			if !wanted[name] && namespace.owner.Ours(name) {
				left = append(left, "namespace "+string(name))
			}
		}
		for name := range w.users {
			if !wanted[name] {
				left = append(left, "user id of "+string(name))
			}
		}
		for name, link := range w.links {
			if !wanted[name] && link.owner.Ours(name) {
				left = append(left, "link "+string(name))
			}
		}
		for name, p := range w.units {
			if !wanted[p.owner.Name] && p.owner.Network == spec.Network {
				left = append(left, name)
			}
		}
		for name := range w.held {
			if !wanted[name] {
				left = append(left, "state of "+string(name))
			}
		}
		for id := range w.published {
			if !ids[id] {
				left = append(left, "status of "+string(id))
			}
		}
		for _, text := range left {
			if !yield(text + " is left") {
				return
			}
		}
	}
}

// differsLocked describes how one container differs from its binding. It returns "" if it does not. The cheapest
// comparisons come first.
func (w *world) differsLocked(b *spec.Binding) string {
	c, name := b.Container, b.Container.InterfaceName
	switch {
	case w.published[c.ContainerID].Code != spec.Running:
		return fmt.Sprintf("status %v", w.published[c.ContainerID])
	case w.namespaces[name].owner != spec.Owner{Network: spec.Network, Name: name, ContainerID: c.ContainerID}:
		return fmt.Sprintf("namespace %v", w.namespaces[name])
	case w.held[name] != holding{c.ContainerID, string(b.Configuration)}:
		return fmt.Sprintf("configured is %v", w.held[name])
	}
	entries := w.readLocked(name)
	if len(entries) != 1 || entries[0].Record == nil {
		return fmt.Sprintf("records %v", entries)
	}
	record := entries[0].Record
	digest, _ := b.Conf(spec.Network, "").Digest()
	if record.Phase != statedir.Added || record.BootID != w.boot || record.Container != c ||
		*record.Conf.Container != c || record.Digest != digest {
		return fmt.Sprintf("record %s differs from the desired state", record.Phase)
	}
	for _, name := range record.Units() {
		if p := w.units[name]; p == nil || !p.unit.Running() {
			return name + " does not run"
		}
	}
	return ""
}

// settled reports whether the actual state equals the desired state.
func (w *world) settled() bool {
	for range w.differences() {
		return false
	}
	return true
}

// phase returns the phase of a name's only record, or "none", "two" or "damaged".
func (w *world) phase(name spec.Name) statedir.Phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch entries := w.readLocked(name); {
	case len(entries) == 0:
		return "none"
	case len(entries) > 1:
		return "two"
	case entries[0].Record == nil:
		return "damaged"
	default:
		return entries[0].Record.Phase
	}
}

// history returns all statuses that were published for a container, in order.
func (w *world) history(id spec.ContainerID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.statusHistory[id], ", ")
}

// allStatuses returns the statuses that are published now.
func (w *world) allStatuses() map[spec.ContainerID]spec.ContainerStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.published)
}

// hostStatus returns the last status of the host.
func (w *world) hostStatus() spec.HostStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastHostStatus
}

// verbCalls returns the verbs that were started.
func (w *world) verbCalls() []verbCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func (w *world) status(id spec.ContainerID) spec.ContainerStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.published[id]
}

// verbs returns the verbs that were started for a name, in order.
func (w *world) verbs(name spec.Name) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var verbs []string
	for _, call := range w.calls {
		if call.name == name {
			verbs = append(verbs, string(call.verb))
		}
	}
	return strings.Join(verbs, " ")
}

// times returns when a verb was started for a name.
func (w *world) times(verb spec.Verb, name spec.Name) (times []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, call := range w.calls {
		if call.name == name && call.verb == verb {
			times = append(times, call.at)
		}
	}
	return times
}

func (w *world) forgetCalls() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = nil
}

func (w *world) effects() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.trace)
}

// heldReason returns the reason that ps shows for a held name.
func (w *world) heldReason(name spec.Name) string {
	for _, row := range w.current.r.Rows() {
		if row.Name == name && row.Status == "HELD" {
			return row.Reason
		}
	}
	return ""
}
