package reconcile

import (
	"math/rand/v2"
	"time"
)

// backOff delays the repetition of a failed step: 1 s doubling to 60 s, each with up to a quarter more at random, so that
// many containers that failed together do not come back together.
type backOff struct {
	delay time.Duration
	until time.Time
}

const (
	firstDelay = time.Second
	lastDelay  = time.Minute
	againDelay = 5 * time.Second // CNI code 11: fixed, no growth
)

// failed starts the next delay and returns it.
func (b *backOff) failed(now time.Time) time.Duration {
	b.delay = min(max(firstDelay, 2*b.delay), lastDelay)
	return b.wait(now, b.delay)
}

// tryAgain starts the fixed delay of code 11.
func (b *backOff) tryAgain(now time.Time) time.Duration {
	return b.wait(now, againDelay)
}

func (b *backOff) wait(now time.Time, d time.Duration) time.Duration {
	d += rand.N(d / 4)
	b.until = now.Add(d)
	return d
}

// waiting says whether a delay runs.
func (b *backOff) waiting(now time.Time) bool { return now.Before(b.until) }
