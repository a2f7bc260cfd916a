// Package busyclock provides timeouts that are longer on a busy machine. If processes have to wait for a processor,
// healthy work takes longer. A timeout in real time would end such work, it would be repeated, and the machine would
// become busier still. Therefore a clock of this package runs at a fifth of its speed while some process waits for a
// processor. The processor time that the work itself used also counts for a fifth only. For work that does not use a
// processor on an idle machine, a timeout is equal to one in real time. It is never longer than five times that.
//
// The clock uses the pressure stall information of the kernel (/proc/pressure/cpu, "some"). If the kernel does not
// provide it, only the processor time of the work slows the clock.
package busyclock

import (
	"bytes"
	"context"
	"math"
	"os"
	"strconv"
	"sync"
	"time"
)

// Stretch is the factor by which a timeout can be longer than on an idle machine.
const Stretch = 5

// Clock measures the scaled time since its start.
type Clock struct {
	started time.Time
	stalled time.Duration // stalledTime at the start
}

// Start returns a clock that starts now.
func Start() Clock {
	c := Clock{time.Now(), stalledTime()}
	if c.stalled == 0 {
		c.stalled = math.MaxInt64 // the stalled time is unknown and does not slow the clock
	}
	return c
}

// Elapsed returns the scaled time since the start.
func (c Clock) Elapsed() time.Duration { return c.ElapsedWith(0) }

// ElapsedWith works like Elapsed for work that has used the given processor time, which also counts for a fifth only.
func (c Clock) ElapsedWith(used time.Duration) time.Duration {
	real := time.Since(c.started)
	// The difference is negative if stalledTime returns 0 now, or returned 0 at the start.
	slow := min(max(stalledTime()-c.stalled, 0)+used, real)
	return real - slow*(Stretch-1)/Stretch
}

// stalledTime returns the time since boot in which some process waited for a processor. It returns 0 if the kernel does
// not measure it, or if it cannot be read at the moment.
func stalledTime() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	some, _, _ := bytes.Cut(text, []byte("\n"))
	_, total, found := bytes.Cut(some, []byte(" total="))
	microseconds, err := strconv.ParseInt(string(total), 10, 64)
	if !found || err != nil {
		return 0
	}
	return time.Duration(microseconds) * time.Microsecond
}

// AfterFunc calls do in a goroutine of its own when the limit has passed on a clock that starts now. used returns the
// processor time of the work (see ElapsedWith); it may be nil. stop cancels the call, unless do was already called.
func AfterFunc(limit time.Duration, used func() time.Duration, do func()) (stop func()) {
	t := &timeout{clock: Start(), limit: limit, used: used, do: do}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(limit, t.check)
	return t.stop
}

type timeout struct {
	clock Clock
	limit time.Duration
	used  func() time.Duration
	do    func()

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// minInterval is the minimum time between two reads of the clock.
const minInterval = 10 * time.Millisecond

// check calls do if the limit has passed, and otherwise sets the timer to the remaining time.
func (t *timeout) check() {
	var used time.Duration
	if t.used != nil {
		used = t.used()
	}
	t.mu.Lock()
	if t.stopped {
		t.mu.Unlock()
		return
	}
	if left := t.limit - t.clock.ElapsedWith(used); left > 0 {
		t.timer.Reset(max(left, minInterval))
		t.mu.Unlock()
		return
	}
	t.stopped = true
	t.mu.Unlock()
	t.do()
}

func (t *timeout) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.timer.Stop()
}

// WithTimeout works like context.WithTimeout with a clock of this package. The context has no Deadline, because the
// time is not known in advance. After the timeout, Err returns context.Canceled and context.Cause returns
// context.DeadlineExceeded.
func WithTimeout(parent context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return WithTimeoutCause(parent, limit, nil, context.DeadlineExceeded)
}

// WithTimeoutCause works like WithTimeout. After the timeout, context.Cause returns cause. used returns the processor
// time of the work (see AfterFunc).
func WithTimeoutCause(parent context.Context, limit time.Duration, used func() time.Duration, cause error) (
	context.Context, context.CancelFunc,
) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := AfterFunc(limit, used, func() { cancel(cause) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}
