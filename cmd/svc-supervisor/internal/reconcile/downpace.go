package reconcile

import (
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	firstDownCheck = 2 * time.Second
	lastDownCheck  = time.Hour // far above every interval of CHECK
)

// downPace makes CHECK come sooner for a while after a connection went down, or is down for another reason: why it does not come
// up is often known only after a few attempts, and no event tells of that. The delay doubles as long as nothing changes, so a peer
// that is absent costs a few CHECKs.
type downPace struct {
	down  string // the connections that are down, and why
	delay time.Duration
}

// next returns the delay until the next CHECK for a container with this health; 0 is none but the interval.
func (p *downPace) next(h *spec.Health) time.Duration {
	down := downAndWhy(h)
	switch {
	case down == "":
		p.delay = 0
	case down != p.down || p.delay == 0:
		p.delay = firstDownCheck
	default:
		p.delay = min(2*p.delay, lastDownCheck)
	}
	p.down = down
	return p.delay
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
