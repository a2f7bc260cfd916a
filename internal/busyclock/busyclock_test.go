package busyclock

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

const limit = 50 * time.Millisecond

func TestTimeoutComesAfterTheLimit(t *testing.T) {
	began := time.Now()
	ctx, cancel := WithTimeout(t.Context(), limit)
	defer cancel()
	<-ctx.Done()
	if took := time.Since(began); took < limit {
		t.Errorf("the timeout came after %v", took)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
		t.Errorf("cause: %v", cause)
	}
}

func TestTimeoutOfBusyWorkIsFiveTimesAsLong(t *testing.T) {
	began := time.Now()
	used := func() time.Duration { return time.Since(began) }
	ctx, cancel := WithTimeoutCause(t.Context(), limit, used, errors.New("late"))
	defer cancel()
	<-ctx.Done()
	if took := time.Since(began); took < Stretch*limit*9/10 {
		t.Errorf("the timeout came after %v", took)
	}
	if cause := context.Cause(ctx); cause.Error() != "late" {
		t.Errorf("cause: %v", cause)
	}
}

func TestStoppedTimeoutCallsNothing(t *testing.T) {
	called := make(chan struct{})
	stop := AfterFunc(limit, nil, func() { close(called) })
	stop()
	select {
	case <-called:
		t.Error("called after stop")
	case <-time.After(2 * Stretch * limit):
	}
}

func TestEndOfTheParentIsNotATimeout(t *testing.T) {
	parent, end := context.WithCancel(t.Context())
	ctx, cancel := WithTimeout(parent, time.Hour)
	defer cancel()
	end()
	<-ctx.Done()
	if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
		t.Errorf("cause: %v", cause)
	}
}

func TestUnreadableCounterDoesNotSlowTheClock(t *testing.T) {
	for what, stalled := range map[string]time.Duration{
		"now": time.Hour + stalledTime(), "at the start": math.MaxInt64,
	} {
		c := Clock{started: time.Now().Add(-time.Second), stalled: stalled}
		if got := c.Elapsed(); got < time.Second || got > 2*time.Second {
			t.Errorf("unreadable %s: the clock shows %v after a second", what, got)
		}
	}
}

func TestStalledTimeSlowsTheClock(t *testing.T) {
	if stalledTime() == 0 {
		t.Skip("the kernel has no /proc/pressure/cpu")
	}
	before := Clock{started: time.Now().Add(-time.Second), stalled: stalledTime() - 500*time.Millisecond}
	if got := before.Elapsed(); got < 500*time.Millisecond || got > 900*time.Millisecond {
		t.Errorf("the clock shows %v after one second with half a second of stalls", got)
	}
}
