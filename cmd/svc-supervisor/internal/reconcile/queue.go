package reconcile

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// queue assigns marked names to workers. Only one goroutine calls take. A name is in `marked` if it must be observed
// again, and in `busy` while a worker has it. A name that is marked while busy is assigned again when its worker is
// done, not before. So no name has two workers, and no mark is lost.
type queue struct {
	mu     sync.Mutex
	marked map[spec.Name]bool
	busy   map[spec.Name]bool
	order  []spec.Name // marked names that are not busy, in the order of their marks
	wake   chan struct{}
}

func newQueue() *queue {
	return &queue{marked: map[spec.Name]bool{}, busy: map[spec.Name]bool{}, wake: make(chan struct{}, 1)}
}

// mark requests an observation of the name.
func (q *queue) mark(name spec.Name) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.marked[name] {
		return
	}
	q.marked[name] = true
	if !q.busy[name] {
		q.order = append(q.order, name)
		q.signalLocked()
	}
}

// take waits for a name and assigns it to the caller until done is called. It returns false when ctx ends.
func (q *queue) take(ctx context.Context) (spec.Name, bool) {
	for {
		if ctx.Err() != nil {
			return "", false
		}
		q.mu.Lock()
		if len(q.order) > 0 {
			name := q.order[0]
			q.order = q.order[1:]
			delete(q.marked, name)
			q.busy[name] = true
			q.mu.Unlock()
			return name, true
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-q.wake:
		}
	}
}

// done ends the assignment of a name.
func (q *queue) done(name spec.Name) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, name)
	if q.marked[name] {
		q.order = append(q.order, name)
		q.signalLocked()
	}
}

// busyNames returns the names that a worker has.
func (q *queue) busyNames() []spec.Name {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Keys(q.busy))
}

// idle reports whether no name is marked or busy.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.marked) == 0 && len(q.busy) == 0
}

// lengths returns the number of names that wait for a worker, and of those that a worker has.
func (q *queue) lengths() (waiting, busy int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.order), len(q.busy)
}

func (q *queue) signalLocked() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
