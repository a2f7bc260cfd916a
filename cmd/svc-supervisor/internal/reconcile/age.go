package reconcile

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// clockTolerance is the largest difference between a recorded time and the time computed from the monotonic clock at
// which the recorded time is trusted. With a larger difference it was recorded while the wall clock was wrong.
const clockTolerance = 2 * time.Second

// Age returns how long a container has run that was added at the given time of the wall clock. The wall clock may have
// been set since then. Therefore the age is the age of the container's daemon by the monotonic clock, plus the time
// from ADD to the last start of the daemon. Without a running daemon the age is at most the time since boot.
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

// AddedAt returns the recorded time if it agrees with the age, otherwise the time computed from the current wall clock
// and the age.
func AddedAt(recorded time.Time, age time.Duration, now time.Time) time.Time {
	if at := now.Add(-age).UTC().Round(time.Second); at.Sub(recorded).Abs() > clockTolerance {
		return at
	}
	return recorded
}
