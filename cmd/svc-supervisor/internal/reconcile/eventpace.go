package reconcile

import (
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/tokenbucket"
)

// eventGap is the shortest time from the end of a CHECK to a CHECK that an event asks for. addGap is the same time
// after ADD. It is longer, because the start of a daemon causes events, and more follow when its connections come up.
const (
	eventGap = 250 * time.Millisecond
	addGap   = time.Second
)

// addedChecks limits the CHECKs that events add, and those that downPace adds. A daemon or its peer can cause both
// without end.
var addedChecks = tokenbucket.Limit{Every: 10 * time.Second, Burst: 50}

// eventPace decides when events make CHECK due. A CHECK or ADD covers all events received before it started. The number
// of CHECKs is limited, because a daemon can cause any number of events in its own namespace.
type eventPace struct {
	eventAt   time.Time // the first event since the last verb began; zero: none
	notBefore time.Time // no CHECK before this time
	bucket    tokenbucket.Bucket
}

// event records an event. It returns whether it is the first one since the last verb began.
func (p *eventPace) event(now time.Time) bool {
	first := p.eventAt.IsZero()
	if first {
		p.eventAt = now
	}
	return first
}

// due returns when CHECK must run, or zero if no event asks for it.
func (p *eventPace) due() time.Time {
	if p.eventAt.IsZero() {
		return time.Time{}
	}
	return slices.MaxFunc([]time.Time{p.eventAt, p.notBefore, p.bucket.Next(addedChecks)}, time.Time.Compare)
}

// isDue reports whether CHECK is due now.
func (p *eventPace) isDue(now time.Time) bool {
	due := p.due()
	return !due.IsZero() && !now.Before(due)
}

// begin records that a CHECK or ADD begins, whatever the reason for it is.
func (p *eventPace) begin(now time.Time) {
	if p.isDue(now) {
		p.bucket.Take(addedChecks, now)
	}
	p.eventAt = time.Time{}
}

// end records that the verb has ended. No CHECK for an event runs until gap has passed.
func (p *eventPace) end(now time.Time, gap time.Duration) { p.notBefore = now.Add(gap) }
