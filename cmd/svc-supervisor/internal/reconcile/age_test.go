package reconcile

import (
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func TestAgeIsIndependentOfTheWallClock(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const years = 9463 * 24 * time.Hour
	for _, r := range []struct {
		name    string
		addedAt time.Time
		daemon  unit.Details
		want    time.Duration
	}{
		{
			"nothing happened", ago(time.Minute), unit.Details{ActiveFor: time.Minute, ActiveSince: ago(time.Minute)},
			time.Minute,
		},
		{
			"the clock was set forward after ADD", ago(years),
			unit.Details{ActiveFor: time.Minute, ActiveSince: ago(years)}, time.Minute,
		},
		{
			"the clock was set back after ADD", now.Add(time.Hour),
			unit.Details{ActiveFor: time.Minute, ActiveSince: now.Add(time.Hour)}, time.Minute,
		},
		{"the daemon was restarted a minute after ADD, then the clock was set", ago(years),
			unit.Details{ActiveFor: time.Second, ActiveSince: ago(years - time.Minute)}, time.Minute + time.Second},
		{"no daemon, and the clock was set back", now.Add(time.Hour), unit.Details{}, 0},
	} {
		if got := Age(r.addedAt, r.daemon, now); got != r.want {
			t.Errorf("%s: %v, want %v", r.name, got, r.want)
		}
	}
	if got := Age(ago(years), unit.Details{}, now); got > uptime() {
		t.Errorf("no daemon, and the clock was set forward: %v", got)
	}
	if got := AddedAt(ago(time.Minute), time.Minute+time.Second, now); !got.Equal(ago(time.Minute)) {
		t.Errorf("recorded %v, shown %v", ago(time.Minute), got)
	}
	if got := AddedAt(ago(years), time.Minute, now); !got.Equal(ago(time.Minute)) {
		t.Errorf("the clock was set: shown %v", got)
	}
}

func TestAddedAtIsShown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.after(time.Minute)
		if row := w.current.r.Rows()[0]; time.Since(*row.AddedAt).Round(2*time.Second) != time.Minute {
			t.Errorf("added at %v, it is %v", row.AddedAt, time.Now())
		}
	})
}
