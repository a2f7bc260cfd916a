package reconcile

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// clockTolerance is how far a time that was recorded may be from the one that the monotonic clock gives before it counts as
// written under a clock that was wrong.
const clockTolerance = 2 * time.Second

// Age returns how long a container has run that was added at the recorded time of the wall clock. The wall clock may have been set
// since then, so the age is that of its daemon by the monotonic clock, and the time from ADD to the last start of the daemon. Without
// a daemon that runs the age is at most the time since boot.
func Age(addedAt time.Time, daemon unit.Details, now time.Time) time.Duration {
	age := now.Sub(addedAt)
	if daemon.ActiveFor > 0 {
		age = daemon.ActiveFor + max(0, daemon.ActiveSince.Sub(addedAt))
	}
	return max(0, min(age, uptime()))
}

func uptime() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

// AddedAt returns the recorded time if it agrees with the age, else the one that the present wall clock and the age give.
func AddedAt(recorded time.Time, age time.Duration, now time.Time) time.Time {
	if at := now.Add(-age).UTC().Round(time.Second); at.Sub(recorded).Abs() > clockTolerance {
		return at
	}
	return recorded
}

// noteAge notes since when a container runs that an earlier supervisor added.
func (r *Reconciler) noteAge(ctx context.Context, s *snapshot, m *memory) {
	record := s.record()
	if record == nil || record.AddedAt == nil || !s.facts.runs() || !s.facts.Readable || !m.madeAt.IsZero() {
		return
	}
	var daemon unit.Details
	if units := record.Units(); len(units) > 0 {
		daemon, _ = r.units.Show(ctx, units[0])
	}
	now := time.Now()
	m.madeAt = now.Add(-Age(*record.AddedAt, daemon, now))
}
