package zoom

import "sync"

// events gathers what the client tells from its own goroutine, until Run takes it: events mark nodes, and Run reads them.
type events struct {
	mu    sync.Mutex
	fired map[string]bool // nodes whose watch has fired
	back  bool            // there is a connection again: what happened meanwhile is not known
	fresh bool            // and with a new session: no watch stands
	wake  chan struct{}
}

func newEvents() *events {
	return &events{fired: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (e *events) fire(path string) {
	e.mu.Lock()
	e.fired[path] = true
	e.mu.Unlock()
	e.rouse()
}

func (e *events) again(fresh bool) {
	e.mu.Lock()
	e.back, e.fresh = true, e.fresh || fresh
	e.mu.Unlock()
	e.rouse()
}

func (e *events) rouse() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// take hands over what was gathered.
func (e *events) take() (fired map[string]bool, back, fresh bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fired, back, fresh = e.fired, e.back, e.fresh
	e.fired, e.back, e.fresh = map[string]bool{}, false, false
	return fired, back, fresh
}

// hasFired says whether a node's watch has fired since the last take.
func (e *events) hasFired(path string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fired[path]
}

// pending says whether something was told since the last take.
func (e *events) pending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.fired) > 0 || e.back
}

// returned says whether the connection came back since the last take.
func (e *events) returned() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.back
}
