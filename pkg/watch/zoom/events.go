package zoom

import (
	"sync"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
)

// events collects the events of the client's goroutine until Run drains them.
type events struct {
	mu          sync.Mutex
	fired       map[string]bool // nodes whose watch has fired
	reconnected bool            // the client has reconnected: changes may have been missed
	newSession  bool            // the reconnect started a new session: there are no watches
	wake        signal.Signal
}

func newEvents() *events {
	return &events{fired: map[string]bool{}, wake: signal.New()}
}

func (e *events) fire(path string) {
	e.mu.Lock()
	e.fired[path] = true
	e.mu.Unlock()
	e.wake.Send()
}

func (e *events) sessionConnected(newSession bool) {
	e.mu.Lock()
	e.reconnected, e.newSession = true, e.newSession || newSession
	e.mu.Unlock()
	e.wake.Send()
}

// drain returns and resets the collected events.
func (e *events) drain() (fired map[string]bool, reconnected, newSession bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fired, reconnected, newSession = e.fired, e.reconnected, e.newSession
	e.fired, e.reconnected, e.newSession = map[string]bool{}, false, false
	return fired, reconnected, newSession
}

// hasFired reports whether a watch of the node has fired since the last drain.
func (e *events) hasFired(path string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fired[path]
}

// pending reports whether there are events since the last drain.
func (e *events) pending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.fired) > 0 || e.reconnected
}

// hasReconnected reports whether the client has reconnected since the last drain.
func (e *events) hasReconnected() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reconnected
}
