// Package tokenbucket limits how often an event may happen. A bucket has no clock and no goroutine. The caller passes
// the current time.
package tokenbucket

import "time"

// Limit allows Burst events at once, and then one event per Every. Both must be positive.
type Limit struct {
	Every time.Duration
	Burst int
}

// Bucket counts the events of one source. The zero Bucket is full. It is not safe for concurrent use.
type Bucket struct {
	full time.Time // when the bucket will be full again
}

// Take takes a token for an event at the time now. It returns false if the bucket is empty, which means that the event
// is above the limit. The limit may differ from call to call.
func (b *Bucket) Take(limit Limit, now time.Time) bool {
	full := b.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(limit.Every)
	if full.Sub(now) > time.Duration(limit.Burst)*limit.Every {
		return false
	}
	b.full = full
	return true
}

// Next returns the earliest time at which Take succeeds with this limit. It may be in the past.
func (b *Bucket) Next(limit Limit) time.Time {
	return b.full.Add(-time.Duration(limit.Burst-1) * limit.Every)
}

// Full reports whether the bucket has all of its tokens at the time now. It is then equivalent to a new bucket.
func (b *Bucket) Full(now time.Time) bool { return !b.full.After(now) }
