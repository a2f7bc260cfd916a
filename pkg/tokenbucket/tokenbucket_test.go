package tokenbucket

import (
	"testing"
	"time"
)

func TestBucketAllowsTheBurstAndThenTheRate(t *testing.T) {
	limit := Limit{Every: 100 * time.Millisecond, Burst: 3}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rows := []struct {
		sentence string
		after    time.Duration // since start
		events   int
		want     int // events that are allowed
	}{
		{"a new bucket allows its burst", 0, 5, 3},
		{"no token is added before the interval has passed", 90 * time.Millisecond, 5, 0},
		{"one token is added per interval", 110 * time.Millisecond, 5, 1},
		{"events above the limit do not delay the next token", 210 * time.Millisecond, 5, 1},
		{"a long pause fills the bucket up to the burst", time.Hour, 5, 3},
		{"a clock that is set back adds no token", 0, 5, 0},
	}
	var bucket Bucket
	for _, row := range rows {
		allowed := 0
		for range row.events {
			if bucket.Take(limit, start.Add(row.after)) {
				allowed++
			}
		}
		if allowed != row.want {
			t.Errorf("%s: %d of %d events are allowed, want %d", row.sentence, allowed, row.events, row.want)
		}
	}
}

func TestBucketIsFullAgainWhenAllTokensAreBack(t *testing.T) {
	limit := Limit{Every: time.Second, Burst: 2}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var bucket Bucket
	if !bucket.Full(start) {
		t.Error("a new bucket is not full")
	}
	bucket.Take(limit, start)
	bucket.Take(limit, start)
	if bucket.Full(start.Add(1900 * time.Millisecond)) {
		t.Error("a bucket is full before its last token was added")
	}
	if !bucket.Full(start.Add(2 * time.Second)) {
		t.Error("a bucket is not full after its last token was added")
	}
}

func TestNextIsTheEarliestTimeAtWhichTakeSucceeds(t *testing.T) {
	limit := Limit{Every: 100 * time.Millisecond, Burst: 3}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var bucket Bucket
	for bucket.Take(limit, now) {
	}
	next := bucket.Next(limit)
	if early := bucket; early.Take(limit, next.Add(-1)) {
		t.Error("Take succeeded before the time that Next returned")
	}
	if !bucket.Take(limit, next) {
		t.Error("Take failed at the time that Next returned")
	}
}
