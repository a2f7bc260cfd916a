package reconcile

import (
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/tokenbucket"
)

// eventGap is the least time from the end of CHECK to a CHECK that an event asks for. After ADD it is addGap: the start of a
// daemon itself causes events, and more follow when its connections come up.
const (
	eventGap = 250 * time.Millisecond
	addGap   = time.Second
)

// addedChecks limits the CHECKs that events add, and those that downPace adds: a daemon or its peer can cause both without end.
var addedChecks = tokenbucket.Limit{Every: 10 * time.Second, Burst: 50}

// eventPace decides when CHECK is due because of events. A CHECK or ADD covers all events received before it started. The number
// of CHECKs is bounded, because a daemon can cause events at will in its own namespace.
type eventPace struct {
	eventAt time.Time // the first event since the last verb began; zero: there was none
	rested  time.Time // no CHECK before
	bucket  tokenbucket.Bucket
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
	return slices.MaxFunc([]time.Time{p.eventAt, p.rested, p.bucket.Next(addedChecks)}, time.Time.Compare)
}

// isDue says whether CHECK is due by now.
func (p *eventPace) isDue(now time.Time) bool {
	due := p.due()
	return !due.IsZero() && !now.Before(due)
}

// begin notes that a verb begins, for whatever reason.
func (p *eventPace) begin(now time.Time) {
	if p.isDue(now) {
		p.bucket.Take(addedChecks, now)
	}
	p.eventAt = time.Time{}
}

// end notes that it ended, and the least time from then to a CHECK.
func (p *eventPace) end(now time.Time, gap time.Duration) { p.rested = now.Add(gap) }
