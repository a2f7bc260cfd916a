package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// SetDesired sets the desired state and marks every name that it may affect.
func (r *Reconciler) SetDesired(ctx context.Context, desired spec.Desired) {
	r.applying.Lock()
	defer r.applying.Unlock()
	was, is, ok := r.desired.set(r.types.split(desired))
	if !ok {
		return
	}
	r.logBindings(is)
	r.logDuplicates(was, is)
	r.host.update()
	r.statuses.reportRejected()
	r.statuses.prune(ctx)
	changed := changedNames(was, is)
	if changed == nil {
		r.MarkAll()
		return
	}
	for _, name := range changed {
		r.Mark(name)
	}
	r.held.mark(decide.HeldSlot) // weight or limit may have changed
}

// Drain sets an empty desired state, so that all containers are removed. Later calls of SetDesired are ignored.
func (r *Reconciler) Drain() {
	r.applying.Lock()
	defer r.applying.Unlock()
	r.desired.drain()
	r.statuses.reportRejected()
	r.MarkAll()
}

// logBindings logs the bound ports, as a help to find out why a container does not start.
func (r *Reconciler) logBindings(c *claims) {
	if c.unread != "" {
		r.log.Warn("host object unreadable, changing nothing", "reason", c.unread)
		return
	}
	if !r.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	var ports []string
	for _, bindings := range c.byName {
		for _, b := range bindings {
			ports = append(ports, string(b.PortID))
		}
	}
	slices.Sort(ports)
	host, _ := r.desired.hostStatus()
	r.log.Debug("host bindings updated", "hostId", host.ID, "portIds", ports)
}

// logDuplicates warns once of each binding that shares addresses with another one.
func (r *Reconciler) logDuplicates(was, is *claims) {
	for _, port := range slices.Sorted(maps.Keys(is.duplicates)) {
		if note := is.duplicates[port]; was == nil || was.duplicates[port] != note {
			r.log.Warn("addresses of two containers are the same", "portId", port, "reason", note)
		}
	}
}

// MarkHeld marks the names that are held for a reason whose end causes no event, for example a name that another
// program uses.
func (r *Reconciler) MarkHeld(ctx context.Context) {
	r.applying.Lock()
	r.statuses.reportRejected() // a status may have belonged to another binding before
	r.statuses.prune(ctx)       // the last attempt may have failed
	r.applying.Unlock()
	r.held.mark(decide.HeldTaken)
	r.held.mark(decide.HeldLeftover)
}

// ApplyPushedHealth applies pushed health. It is shown and published at once, also while a verb of the container runs.
// The answer of that verb may be older, so the worker applies the push again after it. Pushes for containers without a
// record are dropped.
func (r *Reconciler) ApplyPushedHealth(pushed *spec.Health) {
	name := pushed.InterfaceName
	r.memories.mu.Lock()
	holder := r.desired.holder(name)
	if holder.container == "" || holder.deleted {
		r.memories.mu.Unlock()
		return
	}
	m := r.memories.getLocked(name) // after a start the name may not have been observed yet
	if len(m.shared.pushed.connections)+len(pushed.Connections) <= pushedLimit {
		m.shared.pushed.connections = append(m.shared.pushed.connections, pushed.Connections...)
	} else {
		m.shared.pushed.lost = true
	}
	m.shared.pushed.received, m.shared.pushed.againAt = true, time.Time{}
	if pushed.Again != nil {
		m.shared.pushed.againAt = time.Now().Add(time.Duration(pushed.Again.After) * time.Second)
	}
	r.connections.pushedLocked(name, m, pushed.Connections)
	if m.shared.row.Health != nil {
		m.shared.row.Health = m.shared.row.Health.With(pushed.Connections)
	}
	r.report.MergeConnections(holder.container, pushed.Connections)
	r.memories.mu.Unlock()
	r.Mark(name)
}
