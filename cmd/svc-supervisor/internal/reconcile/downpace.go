package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/tokenbucket"
)

const (
	firstDownCheck = 2 * time.Second
	lastDownCheck  = 2 * time.Minute
	// unexplainedChecks is how many CHECKs follow each other without a longer delay while a connection is down for an unknown reason. On a
	// busy machine the daemon logs the reason late.
	unexplainedChecks = 2
)

// downPace adds CHECKs after a connection went down, or the reason why it is down changed: the reason is often known only after
// some attempts, and no event of the kernel announces it. The delay grows fourfold while nothing changes, at first only if the reason is
// known, so an absent peer costs a few CHECKs.
type downPace struct {
	down  string // the connections that are down, and why
	delay time.Duration
	// repeats counts the CHECKs for which the delay did not grow.
	repeats int
	bucket  tokenbucket.Bucket
}

// next returns the delay until the next CHECK for a container with this health; 0: no further one than at the interval.
func (p *downPace) next(h *spec.Health, now time.Time) time.Duration {
	down := downAndWhy(h)
	switch {
	case down == "":
		p.delay = 0
	case down != p.down || p.delay == 0:
		p.delay, p.repeats = firstDownCheck, 0
	case p.repeats < unexplainedChecks && unexplained(h):
		p.repeats++
	default:
		p.delay = min(4*p.delay, lastDownCheck)
	}
	p.down = down
	if p.delay > 0 && !p.bucket.Take(addedChecks, now) {
		return 0
	}
	return p.delay
}

// postpone skips the CHECK that is due and lengthens the delay. It returns when the next one is due; zero: no connection is down.
func (p *downPace) postpone(now time.Time) time.Time {
	if p.delay == 0 {
		return time.Time{}
	}
	p.delay = min(4*p.delay, lastDownCheck)
	return now.Add(p.delay)
}

// unexplained reports whether a connection is down for an unknown reason.
func unexplained(h *spec.Health) bool {
	return slices.ContainsFunc(h.Connections, func(c spec.Connection) bool { return c.Status == spec.Down && c.Reason == "" })
}

func downAndWhy(h *spec.Health) string {
	var b strings.Builder
	for _, c := range h.Connections {
		if c.Status == spec.Down {
			b.WriteString(c.ID + "\x00" + c.Reason + "\x00")
		}
	}
	return b.String()
}
