// Package tokenbucket limits how often an event may happen. A bucket has no clock and no goroutine: the caller
// passes the time.
package tokenbucket

import "time"

// Limit allows Burst events at once, and after them one event in each Every. Both must be positive.
type Limit struct {
	Every time.Duration
	Burst int
}

// Bucket counts the events of one source. The zero Bucket is full. It is not safe for concurrent use.
type Bucket struct {
	full time.Time // when all tokens are back
}

// Take takes a token for an event at the time now. It returns false if the bucket is empty: the event is above the
// limit. The limit may differ from call to call.
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

// Next returns the time from which on Take succeeds with this limit. It may have passed.
func (b *Bucket) Next(limit Limit) time.Time {
	return b.full.Add(-time.Duration(limit.Burst-1) * limit.Every)
}

// Full reports whether all tokens are there, so that the bucket is equal to a new one.
func (b *Bucket) Full(now time.Time) bool { return !b.full.After(now) }
