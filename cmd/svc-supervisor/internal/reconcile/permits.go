package reconcile

import (
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// slowObservation is how long a name counts towards Settings.Parallel while no verb of it runs. Its observation takes
// longer only if systemd or the kernel does not answer. A verb stops counting when it is
// blocked (plugin.Call.Blocked). At most overcommit times Settings.Parallel names are worked on, including those that
// do not count.
const (
	slowObservation = 2 * time.Second
	overcommit      = 4
)

// permit is one of Settings.Parallel permits to work on a name.
type permit struct {
	release func() // lets another name use the permit; only the first call has an effect
	verbs   int    // number of verbs that run for the name
}

// permits holds the permits of the names that are worked on.
type permits struct {
	mu     sync.Mutex
	byName map[spec.Name]*permit
}

// hold records the permit of a name until the returned function is called. It releases the permit if the work on the
// name takes slowObservation and no verb runs then.
func (q *permits) hold(name spec.Name, p *permit) (stop func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.byName[name] = p
	var timer *time.Timer
	timer = time.AfterFunc(slowObservation, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		switch {
		case q.byName[name] != p: // the work has ended
		case p.verbs == 0:
			p.release()
		default:
			timer.Reset(slowObservation)
		}
	})
	return func() {
		timer.Stop()
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.byName, name)
	}
}

// verb records that a verb runs for a name. blocked releases the name's permit; end records that the verb has
// ended.
func (q *permits) verb(name spec.Name) (blocked, end func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.byName[name]
	if p == nil {
		return nil, func() {}
	}
	p.verbs++
	return p.release, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		p.verbs--
	}
}
