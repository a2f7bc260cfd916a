package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// repeatLimit is how often in a row one step may be taken. Without a limit, a step that succeeds but changes nothing
// would occupy a worker for ever.
const repeatLimit = 3

// worker works on one name at a time: it observes the name, decides, and takes the step. It holds no state; that of a
// name is in its memory.
type worker struct {
	observer    *observe.Observer
	listing     *unitListing
	records     Records
	path        func(spec.Name) string // returns the path of a container's namespace
	desired     *desired
	memories    *memories
	statuses    *statuses
	host        *hostReport
	checks      *checkSchedule
	eventChecks *eventChecks
	history     unitHistory
	held        heldNames
	mark        func(spec.Name)
	failures    failures
	log         *slog.Logger

	adder   adder
	remover remover
	checker checker
}

// work takes steps for one container until no step is left. No new step begins after accept ends. The running step must
// end when ctx ends.
func (w *worker) work(accept, ctx context.Context, name spec.Name) {
	m := w.memories.get(name)
	var last decide.Step
	repeated := 0
	for accept.Err() == nil {
		unitsDue := w.memories.takeUnitsDue(m)
		s := w.observe(ctx, name, m)
		if unitsDue {
			w.history.noteRestarts(ctx, s, m)
			w.history.noteAge(ctx, s, m)
		}
		d := w.decide(s)
		w.eventChecks.update(s, d, w.path)
		if d.Step == decide.None {
			w.finish(s, m, d)
			return
		}
		if d.Step != last {
			last, repeated = d.Step, 0
		}
		if repeated++; repeated > repeatLimit {
			w.failures.retry(s, m, d.Step, s.noEffect(d.Step))
			continue
		}
		w.show(s, m, d)
		if d.Step != decide.RunCheck {
			m.endSettled(time.Now())
		}
		w.statuses.publish(s, m, d, decide.Observed, nil)
		w.step(ctx, s, m, d)
		w.listing.forget(name) // the step may have changed units since the listing was read
		if d.Step == decide.RunCheck {
			w.memories.setUnitsDue(name)
		}
	}
}

// decide decides on the next step. Before an ADD it reserves a slot. Since slots are reserved under one lock, two names
// cannot get the last slot.
func (w *worker) decide(s *snapshot) decide.Decision {
	s.Facts.Slot = true
	d := decide.Next(s.Facts)
	if d.Step != decide.Add {
		return d
	}
	s.Facts.Slot = w.desired.reserve(s.Name)
	return decide.Next(s.Facts)
}

func (w *worker) step(ctx context.Context, s *snapshot, m *memory, d decide.Decision) {
	switch d.Step {
	case decide.RunCheck:
		w.checker.check(ctx, s, m)
	case decide.Rewrite:
		w.adder.rewrite(s, m)
	case decide.Delete:
		w.remover.remove(ctx, s, m, d)
	case decide.Reconfigure:
		w.adder.reconfigure(ctx, s, m, d)
	case decide.Clean:
		w.remover.clean(ctx, s, m)
	case decide.Add:
		w.adder.add(ctx, s, m, d)
	}
}

// finish ends an observation after which no step is taken. It reports and shows a settled or held container, and sets a
// timer for the next time at which something is due.
func (w *worker) finish(s *snapshot, m *memory, d decide.Decision) {
	now := s.now // so that what has become due since the observation gets a timer too
	tidied := w.tidy(s, m)
	switch {
	case tidied && s.Facts.HostKnown() && s.Facts.RecordKnown():
		m.retries.unreadable = backOff{}
	case !m.retries.unreadable.waiting(now):
		// No event signals recovery, so the observation is retried with back-off. An observation that an event caused
		// does not lengthen the delay.
		m.retries.unreadable.failed(now)
	}
	if s.Facts.Runs() && m.checks.at.IsZero() { // adopted from an earlier run; it may not settle for a long time
		// The first CHECKs are spread over the interval, and none runs within the first sixth.
		m.checks.at = now.Add(w.checks.interval/6 + rand.N(max(w.checks.interval*5/6, 1)))
	}
	if d.Condition == decide.Running && s.Facts.IsWanted() {
		m.noteRunning(now, s.Facts.Units == decide.UnitsGood)
	}
	switch {
	case d.Settled(&s.Facts):
		m.noteSettled(now)
	case d.HeldDown(&s.Facts) && m.life.downSince.IsZero():
		m.life.downSince = now
	}
	if tidied {
		w.statuses.publish(s, m, d, decide.Observed, nil)
	}
	w.logHeld(s, m, d)
	w.show(s, m, d)
	w.memories.forgetOrWake(s, m, now, w.mark)
}

// tidy removes what is kept only for a wanted name: records of phase `deleted`, the slot and the history. It returns
// false if it must be retried.
func (w *worker) tidy(s *snapshot, m *memory) bool {
	if s.Facts.Wanted != decide.NotWanted || s.Facts.Record != decide.NoRecord {
		return true
	}
	for _, entry := range w.records.Read(s.Name) {
		if err := w.records.Remove(s.Name, entry.ServiceType); err != nil {
			w.log.Warn("record not removed", "container", s.Name, "error", err)
			return false
		}
	}
	w.desired.forget(s.Name)
	m.forgetContainer()
	w.release(s.Name)
	return true
}

// noEffect returns the error for a step that succeeded repeatLimit times in a row and is still asked for.
func (s *snapshot) noEffect(step decide.Step) error {
	text := fmt.Sprintf("%v was taken %d times without effect", step, repeatLimit)
	switch {
	case step == decide.Clean:
		text += ": " + s.Leftover + " is still there"
	case step == decide.Reconfigure && s.Facts.ReconfigureDue:
		text += ": the executable asks for it at once"
	}
	return errors.New(text)
}

// release releases the slot of a name that has no record any more, and marks the names that wait for a slot.
func (w *worker) release(name spec.Name) {
	if w.desired.release(name) {
		w.host.update()
		w.held.mark(decide.HeldSlot)
	}
}
