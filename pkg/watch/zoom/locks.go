package zoom

import (
	"context"
	"sync"
)

// nodeLocks has one lock for each path.
type nodeLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed at unlock
}

// lock waits for the lock of a path. It returns false if ctx ends before.
func (l *nodeLocks) lock(ctx context.Context, path string) bool {
	for {
		l.mu.Lock()
		held := l.held[path]
		if held == nil {
			l.held[path] = make(chan struct{})
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return false
		}
	}
}

func (l *nodeLocks) unlock(path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[path])
	delete(l.held, path)
}
