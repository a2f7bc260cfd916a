package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// statuses knows which published statuses belong to which name, and removes those that belong to none. It publishes the
// statuses of the bindings that no worker handles.
type statuses struct {
	desired  *desired
	memories *memories
	report   Reporter
	log      *slog.Logger
	pruned   bool // only prune uses it

	mu sync.Mutex
	// unowned are published statuses that no worker removes: of rejected bindings, or of an earlier run.
	unowned  map[spec.ContainerID]bool
	rejected []Row
}

// rejectedRows returns the rows of the bindings that no worker handles.
func (p *statuses) rejectedRows() []Row {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.rejected)
}

// prune removes, once, the published statuses of containers that have neither a record nor a binding. After a failure
// the next call tries again. The caller must hold Reconciler.applying.
func (p *statuses) prune(ctx context.Context) {
	if p.pruned {
		return
	}
	keep, others, known := p.desired.containers()
	if !known {
		return
	}
	kept := func(id spec.ContainerID) bool {
		if others[id] {
			return true
		}
		if keep[id] {
			p.addUnowned(id) // removed together with its binding, unless a worker publishes another status
		}
		return keep[id]
	}
	if err := p.report.Prune(ctx, kept); err != nil {
		p.log.Warn("old statuses not removed", "error", err)
		return
	}
	p.pruned = true
}

// reportRejected reports the bindings that no worker handles, and removes the statuses of those that no longer exist.
// The caller must hold Reconciler.applying.
func (p *statuses) reportRejected() {
	p.mu.Lock()
	was, is := maps.Clone(p.unowned), map[spec.ContainerID]bool{}
	p.mu.Unlock()
	rejected, anyUnread, known := p.desired.rejected()
	if !known {
		return
	}
	p.setRejected(rejected)
	for _, rejection := range rejected {
		c := rejection.binding.Container
		if c.ContainerID == "" {
			continue
		}
		is[c.ContainerID] = true
		if !was[c.ContainerID] {
			p.log.Warn("binding held", append(fields(c), "reason", rejection.reason)...)
		}
		facts := decide.StatusFacts{
			Moment: decide.Rejected, UsedElsewhere: p.desired.heldElsewhere(c.ContainerID, "", rejection.binding),
		}
		if decide.Status(facts) == decide.PublishError {
			p.report.Set(c, spec.Failed, rejection.reason, nil)
		}
	}
	for id := range was {
		switch {
		case is[id]:
		case anyUnread || p.desired.heldElsewhere(id, "", nil):
			is[id] = true // unknown, or published by another name; checked again at the next call
		default:
			p.report.Remove(id)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.unowned, func(id spec.ContainerID, _ bool) bool { return was[id] })
	maps.Copy(p.unowned, is)
}

func (p *statuses) setRejected(rejected []rejection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rejected = nil
	for _, rejection := range rejected {
		c := rejection.binding.Container
		p.rejected = append(p.rejected, Row{
			Name: c.InterfaceName, Type: c.ServiceType, Status: RowHeld, Reason: rejection.reason,
			PortID:      rejection.binding.PortID,
			ContainerID: c.ContainerID,
		})
	}
}

// own records that the name publishes the status of container c. If the name published the status of another container
// before, that status is removed.
func (p *statuses) own(c spec.Container, m *memory) {
	if m.published != "" && m.published != c.ContainerID {
		p.unpublish(c.InterfaceName, m)
	}
	m.published = c.ContainerID
}

// unpublish removes the status that the name publishes. If another name or binding has the same container id, the
// status stays until that is no longer the case.
func (p *statuses) unpublish(name spec.Name, m *memory) {
	if !p.desired.heldElsewhere(m.published, name, nil) {
		p.report.Remove(m.published)
	} else {
		p.addUnowned(m.published)
	}
	m.published = ""
}

func (p *statuses) addUnowned(id spec.ContainerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unowned[id] = true
}

// hostReport publishes weight, quota and count of the host.
type hostReport struct {
	desired *desired
	report  interface{ SetHost(spec.HostStatus) }
	log     *slog.Logger

	mu   sync.Mutex // serializes reports, so that an older count cannot replace a newer one
	last *spec.HostStatus
}

// update publishes the status if it has changed and the host object has been read.
func (h *hostReport) update() {
	h.mu.Lock()
	defer h.mu.Unlock()
	host, status := h.desired.hostStatus()
	if host.ID == "" || h.last != nil && *h.last == status {
		return
	}
	h.last = &status
	h.log.Debug("container service is running", "weight", status.Weight, "count", status.Count, "limit", host.Limit,
		"quota", status.Quota)
	h.report.SetHost(status)
}
