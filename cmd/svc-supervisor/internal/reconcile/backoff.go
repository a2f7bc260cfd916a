package reconcile

import (
	"math/rand/v2"
	"time"
)

// backOff delays the retry of a failed step. The delay doubles from 1 s to 60 s. Up to a quarter is added at random, so
// that many containers that failed together are not retried together.
type backOff struct {
	delay time.Duration
	until time.Time
}

const (
	firstDelay = time.Second
	lastDelay  = time.Minute
	againDelay = 5 * time.Second // fixed delay of CNI code 11
)

// failed starts the next delay and returns it.
func (b *backOff) failed(now time.Time) time.Duration {
	b.delay = min(max(firstDelay, 2*b.delay), lastDelay)
	return b.wait(now, b.delay)
}

// tryAgain starts the fixed delay of code 11 and returns it.
func (b *backOff) tryAgain(now time.Time) time.Duration {
	return b.wait(now, againDelay)
}

func (b *backOff) wait(now time.Time, d time.Duration) time.Duration {
	d += rand.N(d / 4)
	b.until = now.Add(d)
	return d
}

// waiting reports whether the delay has not passed yet.
func (b *backOff) waiting(now time.Time) bool { return now.Before(b.until) }
