// Package patience measures time for deadlines that must hold on a busy machine too. While processes wait for a processor,
// work takes longer although nothing is wrong with it, and a deadline in real time would end healthy work; it would be done
// again, and the machine would get even busier. So a clock of this package runs at a fifth of its speed while some process
// waits for a processor, and for as long as the work itself used one. A deadline comes after its time for work that only waits on
// an idle machine, and after five times its time at most.
//
// The source is the kernel's pressure stall information (/proc/pressure/cpu, "some"). Where the kernel has none, all time
// counts.
package patience

import (
	"bytes"
	"context"
	"math"
	"os"
	"strconv"
	"sync"
	"time"
)

// Stretch is how much later than on an idle machine a deadline can come.
const Stretch = 5

// Clock measures time from its start.
type Clock struct {
	started time.Time
	stalled time.Duration // the machine's counter then
}

// Start starts a clock.
func Start() Clock {
	c := Clock{time.Now(), stalledTime()}
	if c.stalled == 0 {
		c.stalled = math.MaxInt64 // not known: all time counts
	}
	return c
}

// Elapsed is the scaled time since the start.
func (c Clock) Elapsed() time.Duration { return c.ElapsedWith(0) }

// ElapsedWith is Elapsed for work that itself used a processor for the given time, which counts for a fifth too.
func (c Clock) ElapsedWith(used time.Duration) time.Duration {
	real := time.Since(c.started)
	slow := min(max(stalledTime()-c.stalled, 0)+used, real) // the counter may have been unreadable now, or at the start
	return real - slow*(Stretch-1)/Stretch
}

// stalledTime is how long since boot some process has waited for a processor; 0 if the kernel does not count it, or if it cannot be
// read at this moment.
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

// AfterFunc calls do in a goroutine of its own when the limit has passed on a clock that starts now. used, which may be nil,
// returns the processor time of the work (see ElapsedWith). stop ends the wait; do may be running already then.
func AfterFunc(limit time.Duration, used func() time.Duration, do func()) (stop func()) {
	w := &wait{clock: Start(), limit: limit, used: used, do: do}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit, w.look)
	return w.stop
}

type wait struct {
	clock Clock
	limit time.Duration
	used  func() time.Duration
	do    func()

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// pause is the shortest time between two looks at the clock.
const pause = 10 * time.Millisecond

func (w *wait) look() {
	var used time.Duration
	if w.used != nil {
		used = w.used()
	}
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return
	}
	if left := w.limit - w.clock.ElapsedWith(used); left > 0 {
		w.timer.Reset(max(left, pause))
		w.mu.Unlock()
		return
	}
	w.stopped = true
	w.mu.Unlock()
	w.do()
}

func (w *wait) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

// WithTimeout is context.WithTimeout by a clock of this package. The context's Deadline method reports none, since the time
// is not known in advance; Err returns context.Canceled and context.Cause returns context.DeadlineExceeded.
func WithTimeout(parent context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return WithTimeoutCause(parent, limit, nil, context.DeadlineExceeded)
}

// WithTimeoutCause is WithTimeout with the cause of the end and the processor time of the work (see AfterFunc).
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
