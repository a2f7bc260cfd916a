package report

import (
	"context"
	"log/slog"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/internal/publish"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Board holds the latest status of each container, from which the next one is decided, and passes every status to a
// publisher. It is safe for concurrent use.
type Board struct {
	publisher *publish.Publisher

	mu         sync.Mutex // also held while a status is passed to the publisher, so that the order is kept
	containers map[spec.ContainerID]*entry
}

// entry is the latest status of one container.
type entry struct {
	status *spec.ContainerStatus
}

// NewBoard returns a Board without statuses. Its Run method writes statuses to store.
func NewBoard(store publish.Store, log *slog.Logger) *Board {
	return &Board{publisher: publish.New(store, log), containers: map[spec.ContainerID]*entry{}}
}

// Run writes statuses to the NSDB until ctx ends, see publish.Publisher.
func (b *Board) Run(ctx context.Context) { b.publisher.Run(ctx) }

// Host reports the host's weight, quota and count.
func (b *Board) Host(status spec.HostStatus) { b.publisher.SetHost(status) }

// Withdraw removes the host's status for good. It waits until the NSDB has no such status, or ctx ends. Later calls of
// Host are ignored.
func (b *Board) Withdraw(ctx context.Context) error { return b.publisher.Withdraw(ctx) }

// Prune removes the published statuses of containers for which neither the Board has a status nor keep returns true,
// for example statuses of an earlier run.
func (b *Board) Prune(ctx context.Context, keep func(spec.ContainerID) bool) error {
	return b.publisher.Prune(ctx, keep)
}

// Remove removes the published status of a container.
func (b *Board) Remove(id spec.ContainerID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.containers, id)
	b.publisher.Remove(id)
}

// Status returns the latest status of a container, or false if the container has no status.
func (b *Board) Status(id spec.ContainerID) (spec.ContainerStatus, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.containers[id]; e != nil {
		return *e.status, true
	}
	return spec.ContainerStatus{}, false
}

// set makes a status the one to publish.
func (b *Board) set(id spec.ContainerID, status *spec.ContainerStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setLocked(id, status)
}

func (b *Board) setLocked(id spec.ContainerID, status *spec.ContainerStatus) {
	b.containers[id] = &entry{status}
	b.publisher.Set(id, *status)
}
