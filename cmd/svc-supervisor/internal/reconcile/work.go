package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// repeatLimit is how often in a row one step may be taken. Without a limit, a step that succeeds but changes nothing
// would occupy a worker for ever.
const repeatLimit = 3

// work takes steps for one container until no step is left. No new step begins after accept ends. The running step must
// end when ctx ends.
func (r *Reconciler) work(accept, ctx context.Context, name spec.Name) {
	m := r.memories.get(name)
	var last decide.Step
	repeated := 0
	for accept.Err() == nil {
		unitsDue := r.memories.takeUnitsDue(m)
		s := r.observe(ctx, name, m)
		if unitsDue {
			r.history.noteRestarts(ctx, s, m)
			r.history.noteAge(ctx, s, m)
		}
		d := r.decide(s)
		r.eventChecks.update(s, d, r.namespaces.Path)
		if d.Step == decide.None {
			r.finish(s, m, d)
			return
		}
		if d.Step != last {
			last, repeated = d.Step, 0
		}
		if repeated++; repeated > repeatLimit {
			r.retry(s, m, d.Step, s.noEffect(d.Step))
			continue
		}
		r.show(s, m, d)
		if d.Step != decide.RunCheck {
			m.endSettled(time.Now())
		}
		r.reportRunningOnce(s, m, d)
		r.step(ctx, s, m, d)
		if d.Step == decide.RunCheck {
			r.memories.setUnitsDue(name)
		}
	}
}

// decide decides on the next step. Before an ADD it reserves a slot. Since slots are reserved under one lock, two names
// cannot get the last slot.
func (r *Reconciler) decide(s *snapshot) decide.Decision {
	s.Facts.Slot = true
	d := decide.Next(s.Facts)
	if d.Step != decide.Add {
		return d
	}
	s.Facts.Slot = r.desired.reserve(s.Name)
	return decide.Next(s.Facts)
}

func (r *Reconciler) step(ctx context.Context, s *snapshot, m *memory, d decide.Decision) {
	switch d.Step {
	case decide.RunCheck:
		r.check(ctx, s, m)
	case decide.Rewrite:
		r.rewrite(s, m)
	case decide.Delete:
		r.remove(ctx, s, m, d)
	case decide.AddAgain:
		r.addAgain(ctx, s, m)
	case decide.Clean:
		r.clean(ctx, s, m)
	case decide.Add:
		r.add(ctx, s, m)
	}
}

// finish ends an observation after which no step is taken. It reports and shows a settled or held container, and sets a
// timer for the next time at which something is due.
func (r *Reconciler) finish(s *snapshot, m *memory, d decide.Decision) {
	now := s.now // this observation did not see what became due after s.now; the timer is set for it
	tidied := r.tidy(s, m)
	switch {
	case tidied && s.Facts.HostKnown() && s.Facts.RecordKnown():
		m.unreadable = backOff{}
	case !m.unreadable.waiting(now):
		// No event signals recovery, so the observation is retried with back-off. An observation that an event caused
		// does not lengthen the delay.
		m.unreadable.failed(now)
	}
	if s.Facts.Runs() && m.checkAt.IsZero() { // adopted from an earlier run; it may not settle for a long time
		// The first CHECKs are spread over the interval, and none runs within the first sixth.
		m.checkAt = now.Add(r.settings.CheckInterval/6 + rand.N(max(r.settings.CheckInterval*5/6, 1)))
	}
	settled := d.Step == decide.None && d.Hold == decide.NotHeld && s.Facts.Runs() && s.Facts.IsWanted()
	switch {
	case settled:
		r.reportSettled(s, m, now)
	case s.Facts.IsWanted() && d.DoesNotRun() && d.Hold != decide.HeldLeftover:
		r.reportHeld(s, m, d, now)
	}
	r.reportRunningOnce(s, m, d)
	r.logHeld(s, m, d)
	r.show(s, m, d)
	r.memories.forgetOrWake(s, m, now, r.Mark)
}

// tidy removes what is kept only for a wanted name: records of phase `deleted`, the slot and the status. It returns
// false if it must be retried.
func (r *Reconciler) tidy(s *snapshot, m *memory) bool {
	if s.Facts.Wanted != decide.NotWanted || s.Facts.Record != decide.NoRecord {
		return true
	}
	for _, entry := range r.records.Read(s.Name) {
		if err := r.records.Remove(s.Name, entry.ServiceType); err != nil {
			r.log.Warn("record not removed", "container", s.Name, "error", err)
			return false
		}
	}
	r.desired.forget(s.Name)
	if m.published != "" {
		r.statuses.unpublish(s.Name, m)
	}
	m.forgetContainer()
	r.release(s.Name)
	return true
}

// reportSettled records that a container is settled, and reports RUNNING.
func (r *Reconciler) reportSettled(s *snapshot, m *memory, now time.Time) {
	if m.settledAt.IsZero() {
		m.settledAt = now
	}
	m.downSince, m.addFails = time.Time{}, 0
	m.ran, m.runningReported = true, true
	m.crashes.up(now)
	r.statuses.publish(s.Record().Container, m)
	r.reportRunning(s, m)
}

// write writes a record and notes what it holds.
func (r *Reconciler) write(record *statedir.Record) error {
	if err := r.records.Write(record); err != nil {
		return err
	}
	r.desired.recorded(record)
	return nil
}

// noEffect returns the error for a step that succeeded repeatLimit times in a row and is still asked for.
func (s *snapshot) noEffect(step decide.Step) error {
	text := fmt.Sprintf("%v was taken %d times without effect", step, repeatLimit)
	switch {
	case step == decide.Clean:
		text += ": " + s.Leftover + " is still there"
	case step == decide.AddAgain && s.Facts.AgainDue:
		text += ": the executable asks for it at once"
	}
	return errors.New(text)
}

// release releases the slot of a name that has no record any more, and marks the names that wait for a slot.
func (r *Reconciler) release(name spec.Name) {
	if r.desired.release(name) {
		r.host.update()
		r.markHeld(decide.HeldSlot)
	}
}
