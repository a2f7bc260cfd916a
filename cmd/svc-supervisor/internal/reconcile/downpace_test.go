package reconcile

import (
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestDownPace(t *testing.T) {
	health := func(connections ...spec.Connection) *spec.Health {
		return &spec.Health{Code: spec.Running, Connections: connections}
	}
	up := spec.Connection{ID: "a", Status: spec.Active}
	down := spec.Connection{ID: "a", Status: spec.Down}
	refused := spec.Connection{ID: "a", Status: spec.Down, Reason: "AUTHENTICATION_FAILED"}
	other := spec.Connection{ID: "b", Status: spec.Down}
	var p downPace
	now := time.Now()
	for i, step := range []struct {
		what   string
		health *spec.Health
		want   time.Duration
	}{
		{"a connection that is up needs no additional CHECK", health(up), 0},
		{"a connection that went down is checked soon", health(down), 2 * time.Second},
		{"it is checked again while the reason is unknown", health(down), 2 * time.Second},
		{"it is checked a second time", health(down), 2 * time.Second},
		{"then the delay grows", health(down), 8 * time.Second},
		{"the delay grows fourfold", health(down), 32 * time.Second},
		{"a reason that becomes known is a change", health(refused), 2 * time.Second},
		{"after it the delay grows again", health(refused), 8 * time.Second},
		{"another connection that goes down is a change", health(refused, other), 2 * time.Second},
		{"without a connection that is down there is no CHECK", health(up), 0},
		{"the next time the delays start from the beginning", health(down), 2 * time.Second},
		{"without connections there is no CHECK", health(), 0},
	} {
		if got := p.next(step.health, now); got != step.want {
			t.Errorf("%d. %s: %s, want %s", i, step.what, got, step.want)
		}
	}
	for range 100 {
		now = now.Add(p.delay)
		p.next(health(down), now)
	}
	if p.delay != lastDownCheck {
		t.Errorf("after 100 CHECKs the delay is %s", p.delay)
	}
	added := 0
	for i := range 1000 { // the reason changes at each CHECK, which runs every 2 s
		now = now.Add(firstDownCheck)
		if p.next(health([]spec.Connection{down, refused}[i%2]), now) > 0 {
			added++
		}
	}
	most := addedChecks.Burst + int(1000*firstDownCheck/addedChecks.Every)
	if added < addedChecks.Burst || added > most {
		t.Errorf("a reason that keeps changing added %d CHECKs in 2,000 s, want at most %d", added, most)
	}
}
