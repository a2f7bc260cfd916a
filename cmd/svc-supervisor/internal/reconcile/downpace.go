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
	// unexplainedChecks is the number of further CHECKs at the first delay while a connection is down for an unknown
	// reason. On a busy machine the daemon logs the reason late.
	unexplainedChecks = 2
)

// downPace schedules additional CHECKs after a connection went down, or after the reason why it is down changed. They
// are needed because the reason is often known only after some attempts, and no kernel event announces it. While
// nothing changes, the delay grows fourfold, so an absent peer costs few CHECKs. It grows only once the reason is
// known, or after unexplainedChecks.
type downPace struct {
	down  string // the connections that are down, with their reasons
	delay time.Duration
	// repeats counts the CHECKs in a row for which the delay did not grow.
	repeats int
	bucket  tokenbucket.Bucket
}

// next returns the delay until the additional CHECK for a container with this health, or 0 if the CHECK at the interval
// suffices.
func (p *downPace) next(h *spec.Health, now time.Time) time.Duration {
	down := downReasons(h)
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

// postpone skips the CHECK that is due and lengthens the delay. It returns the time of the next one, or zero if no
// connection is down.
func (p *downPace) postpone(now time.Time) time.Time {
	if p.delay == 0 {
		return time.Time{}
	}
	p.delay = min(4*p.delay, lastDownCheck)
	return now.Add(p.delay)
}

// unexplained reports whether a connection is down for an unknown reason.
func unexplained(h *spec.Health) bool {
	return slices.ContainsFunc(h.Connections, func(c spec.Connection) bool {
		return c.Status == spec.Down && c.Reason == ""
	})
}

func downReasons(h *spec.Health) string {
	var b strings.Builder
	for _, c := range h.Connections {
		if c.Status == spec.Down {
			b.WriteString(c.ID + "\x00" + c.Reason + "\x00")
		}
	}
	return b.String()
}
