package reconcile

import (
	"context"
	"sync"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// queue hands marked names to workers. A name is in `marked` if it must be looked at again, in `busy` while a worker has
// it; a name that is marked while busy is handed out once more when its worker is done, never before. So no name has two
// workers, and no mark is lost.
type queue struct {
	mu     sync.Mutex
	marked map[spec.Name]bool
	busy   map[spec.Name]bool
	order  []spec.Name // marked and not busy, first come first served
	wake   chan struct{}
}

func newQueue() *queue {
	return &queue{marked: map[spec.Name]bool{}, busy: map[spec.Name]bool{}, wake: make(chan struct{}, 1)}
}

// mark asks for a look at the name.
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

// take waits for a name, and hands it to the caller until done is called. It returns false when ctx ends.
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
			if len(q.order) > 0 {
				q.signalLocked() // for the next worker
			}
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

// done gives the name back.
func (q *queue) done(name spec.Name) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, name)
	if q.marked[name] {
		q.order = append(q.order, name)
		q.signalLocked()
	}
}

// isBusy says whether a worker has the name.
func (q *queue) isBusy(name spec.Name) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy[name]
}

// idle says whether no name is marked or busy.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.marked) == 0 && len(q.busy) == 0
}

func (q *queue) signalLocked() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
