// Package report builds the status of each container from a code, a message and its connections, and publishes it to
// the NSDB. Package decide selects the code.
//
// The package guarantees that the latest status of each container is published as soon as the NSDB accepts it, that the
// statuses of a container are published in order, though an old one may be skipped, and that its callers never wait for
// the NSDB.
package report

import (
	"context"
	"log/slog"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// StatusPublisher holds the latest status of each container and publishes it. It is safe for concurrent use.
type StatusPublisher struct {
	publisher *publish.Publisher

	mu         sync.Mutex // also held while a status is passed to the publisher, so that the order is kept
	containers map[spec.ContainerID]spec.ContainerStatus
}

// New returns a StatusPublisher without statuses. Its Run method writes statuses to store.
func New(store publish.Store, log *slog.Logger) *StatusPublisher {
	return &StatusPublisher{
		publisher: publish.New(store, log), containers: map[spec.ContainerID]spec.ContainerStatus{},
	}
}

// Run writes statuses to the NSDB until ctx ends, see publish.Publisher.
func (p *StatusPublisher) Run(ctx context.Context) { p.publisher.Run(ctx) }

// SetHost publishes the host's weight, quota and count.
func (p *StatusPublisher) SetHost(status spec.HostStatus) { p.publisher.SetHost(status) }

// RemoveHost removes the host's status for good. It waits until the NSDB has no such status, or ctx ends. Later calls
// of SetHost are ignored.
func (p *StatusPublisher) RemoveHost(ctx context.Context) error { return p.publisher.Withdraw(ctx) }

// Set publishes a status of a container. Only the status RUNNING has connections: those of health, or, if health is nil
// because it is not known yet, those of the status before if that was RUNNING too.
func (p *StatusPublisher) Set(c spec.Container, code spec.StatusCode, message string, health *spec.Health) {
	status := spec.ContainerStatus{
		Code: code, Message: message, HostID: c.HostID, InterfaceName: c.InterfaceName,
	}
	if code == spec.Running || code == spec.Stopping {
		status.NamespaceName = string(c.InterfaceName)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case code != spec.Running:
	case health != nil:
		status.Connections = spec.WithoutCounters(health.Connections)
	case p.containers[c.ContainerID].Code == spec.Running:
		status.Connections = p.containers[c.ContainerID].Connections
	}
	p.setLocked(c.ContainerID, status)
}

// MergeConnections updates the given connections in the published status. It changes nothing else, and nothing at all
// unless the status of the container is RUNNING.
func (p *StatusPublisher) MergeConnections(id spec.ContainerID, connections []spec.Connection) {
	p.updateConnections(id, func(was []spec.Connection) []spec.Connection {
		return (&spec.Health{Connections: was}).With(connections).Connections
	})
}

// ReplaceConnections replaces the connections in the published status. Like MergeConnections it changes nothing else.
// CHECK needs it, because Set(RUNNING) is not called while a container differs from its desired state.
func (p *StatusPublisher) ReplaceConnections(id spec.ContainerID, connections []spec.Connection) {
	p.updateConnections(id, func([]spec.Connection) []spec.Connection { return connections })
}

func (p *StatusPublisher) updateConnections(
	id spec.ContainerID, change func([]spec.Connection) []spec.Connection,
) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := p.containers[id]
	if status.Code != spec.Running {
		return
	}
	status.Connections = spec.WithoutCounters(change(status.Connections))
	p.setLocked(id, status)
}

func (p *StatusPublisher) setLocked(id spec.ContainerID, status spec.ContainerStatus) {
	p.containers[id] = status
	p.publisher.Set(id, status)
}

// Remove removes the published status of a container.
func (p *StatusPublisher) Remove(id spec.ContainerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.containers, id)
	p.publisher.Remove(id)
}

// Prune removes the published statuses of containers for which neither a status was set nor keep returns true, for
// example statuses of an earlier run.
func (p *StatusPublisher) Prune(ctx context.Context, keep func(spec.ContainerID) bool) error {
	return p.publisher.Prune(ctx, keep)
}

// Status returns the latest status of a container, or false if the container has no status.
func (p *StatusPublisher) Status(id spec.ContainerID) (spec.ContainerStatus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.containers[id]
	return status, ok
}
