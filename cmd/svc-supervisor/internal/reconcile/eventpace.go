package reconcile

import (
	"slices"
	"time"
)

const (
	// eventGap is the least time from the end of ADD or CHECK to a CHECK that an event asks for.
	eventGap = 250 * time.Millisecond
	// CHECKs because of events use a token bucket: streamAllowance tokens, and one more in each streamGap.
	streamGap       = 10 * time.Second
	streamAllowance = 50
)

// eventPace decides when CHECK is due because of events. A CHECK or ADD covers all events received before it started. The number
// of CHECKs is bounded, because a daemon can cause events at will in its own namespace.
type eventPace struct {
	eventAt time.Time // the first event since the last verb began; zero: there was none
	rested  time.Time // no CHECK before: eventGap after the end of the last verb
	spent   time.Time // when all tokens are back: each CHECK because of an event adds streamGap
}

// event notes an event. It returns whether it is the first since the last verb began.
func (p *eventPace) event(now time.Time) bool {
	first := p.eventAt.IsZero()
	if first {
		p.eventAt = now
	}
	return first
}

// due returns when CHECK must run; zero is never.
func (p *eventPace) due() time.Time {
	if p.eventAt.IsZero() {
		return time.Time{}
	}
	allowed := p.spent.Add(-(streamAllowance - 1) * streamGap)
	return slices.MaxFunc([]time.Time{p.eventAt, p.rested, allowed}, time.Time.Compare)
}

// isDue says whether CHECK is due by now.
func (p *eventPace) isDue(now time.Time) bool {
	due := p.due()
	return !due.IsZero() && !now.Before(due)
}

// begin notes that a verb begins, for whatever reason.
func (p *eventPace) begin(now time.Time) {
	if p.isDue(now) {
		p.spent = later(p.spent, now).Add(streamGap)
	}
	p.eventAt = time.Time{}
}

// end notes that it ended.
func (p *eventPace) end(now time.Time) { p.rested = now.Add(eventGap) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
