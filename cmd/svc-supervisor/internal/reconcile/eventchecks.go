package reconcile

import (
	"log/slog"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// KernelEvents subscribes to changes of the kernel's state in the network namespaces of containers.
type KernelEvents interface {
	// Subscribe subscribes to events of these kinds in the namespace at path. It calls changed after each of them,
	// until Unsubscribe. It does nothing if it is subscribed to the same namespace and kinds. A subscription to another
	// namespace at the path is replaced. fresh reports whether the subscription is new.
	Subscribe(name spec.Name, path string, events spec.Events, changed func()) (fresh bool, err error)
	// LostAt returns when changes of the host's links were last lost.
	LostAt() time.Time
	// Unsubscribe ends the subscription. It must be called before the namespace is removed, because a subscription
	// keeps it alive.
	Unsubscribe(spec.Name)
}

// eventChecks makes CHECK due soon after an event in the namespace of a container whose executable asks for that in
// VERSION. Its state is not persistent: after a restart of the supervisor, the CHECK at the interval finds what changed
// in between.
type eventChecks struct {
	events KernelEvents
	mark   func(spec.Name)
	log    *slog.Logger

	mu      sync.Mutex
	byName  map[spec.Name]*eventCheck
	stopped bool
}

// eventCheck is the state of one container.
type eventCheck struct {
	subscribed spec.Events // the subscribed kinds of events
	since      time.Time   // when the subscription began
	failure    string      // why the subscription failed
	retry      backOff     // delays the next attempt to subscribe
	pace       eventPace
	timer      *time.Timer // marks the name when CHECK is due
}

func newEventChecks(events KernelEvents, mark func(spec.Name), log *slog.Logger) *eventChecks {
	return &eventChecks{events: events, mark: mark, log: log, byName: map[spec.Name]*eventCheck{}}
}

// subscribe subscribes to the events of a container. It does nothing if it has subscribed already.
func (e *eventChecks) subscribe(name spec.Name, path string, events spec.Events) {
	e.mu.Lock()
	c := e.byName[name]
	if c == nil {
		c = new(eventCheck)
		e.byName[name] = c
	}
	waits := c.retry.waiting(time.Now())
	e.mu.Unlock()
	if waits {
		return
	}
	fresh, err := e.events.Subscribe(name, path, events, func() { e.changed(name) })
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		c.subscribed, c.failure, c.retry = events, "", backOff{}
		if fresh {
			c.since = time.Now()
		}
		return
	}
	c.subscribed = spec.Events{}
	c.retry.failed(time.Now())
	if c.failure != err.Error() {
		c.failure = err.Error()
		e.log.Warn("no subscription to kernel events, relying on CHECK at its interval",
			"container", name, "error", err)
	}
}

// subscribedSince reports whether the container was subscribed to both kinds of events at the given time and no event
// was lost since.
func (e *eventChecks) subscribedSince(name spec.Name, at time.Time) bool {
	e.mu.Lock()
	c := e.byName[name]
	subscribed := c != nil && c.subscribed == spec.Events{XFRM: true, Network: true} && c.since.Before(at)
	e.mu.Unlock()
	return subscribed && e.events.LostAt().Before(at)
}

// unsubscribe ends the subscription of a name if it has one.
func (e *eventChecks) unsubscribe(name spec.Name) {
	e.mu.Lock()
	c := e.byName[name]
	if c != nil && c.timer != nil {
		c.timer.Stop()
	}
	delete(e.byName, name)
	e.mu.Unlock()
	if c != nil {
		e.events.Unsubscribe(name)
	}
}

// changed handles an event of a subscribed container.
func (e *eventChecks) changed(name spec.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.byName[name]
	if c == nil || !c.pace.event(time.Now()) {
		return
	}
	e.log.Debug("kernel event, CHECK follows", "container", name)
	e.scheduleLocked(name, c)
}

// scheduleLocked sets the timer for the CHECK that the last event asks for.
func (e *eventChecks) scheduleLocked(name spec.Name, c *eventCheck) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if due := c.pace.due(); !due.IsZero() && !e.stopped {
		c.timer = time.AfterFunc(time.Until(due), func() { e.mark(name) })
	}
}

// due reports whether an event has made CHECK due.
func (e *eventChecks) due(name spec.Name, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.byName[name]
	return c != nil && c.pace.isDue(now)
}

// begin records the start of ADD or CHECK, which covers all events received before. The caller must call end when the
// verb has ended.
func (e *eventChecks) begin(name spec.Name, verb spec.Verb) (end func()) {
	gap := eventGap
	if verb == spec.Add {
		gap = addGap
	}
	e.note(name, func(p *eventPace) { p.begin(time.Now()) })
	return func() { e.note(name, func(p *eventPace) { p.end(time.Now(), gap) }) }
}

// covered discards the events that occurred during ADD, because a CHECK follows soon for another reason. The start of a
// daemon causes events, and a CHECK for them would only repeat what ADD has just reported.
func (e *eventChecks) covered(name spec.Name) {
	e.note(name, func(p *eventPace) { p.eventAt = time.Time{} })
}

func (e *eventChecks) note(name spec.Name, change func(*eventPace)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.byName[name]; c != nil {
		change(&c.pace)
		e.scheduleLocked(name, c)
	}
}

// stop ends the timers.
func (e *eventChecks) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	for _, c := range e.byName {
		if c.timer != nil {
			c.timer.Stop()
		}
	}
}

// update subscribes to the events of a running container. path returns the path of its namespace. It unsubscribes
// before a step that can remove the namespace of the container. It changes nothing while the namespace or the
// executable is unknown.
func (e *eventChecks) update(s *snapshot, d decide.Decision, path func(spec.Name) string) {
	unknown := !s.Facts.HostKnown() || !s.Facts.RecordKnown() || s.Facts.Runs() && s.ForRecorded.Path == ""
	switch {
	case d.Step == decide.Delete || d.Step == decide.Clean:
		e.unsubscribe(s.Name)
	case unknown:
	case s.Facts.Runs() && s.Facts.Namespace == decide.NamespaceOurs && s.ForRecorded.CheckOn != (spec.Events{}):
		e.subscribe(s.Name, path(s.Name), s.ForRecorded.CheckOn)
	default:
		e.unsubscribe(s.Name)
	}
}
