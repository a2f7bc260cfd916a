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
		{"no token comes back before its time", 90 * time.Millisecond, 5, 0},
		{"one token comes back in each interval", 110 * time.Millisecond, 5, 1},
		{"events above the limit delay no token", 210 * time.Millisecond, 5, 1},
		{"a long pause gives back the burst and no more", time.Hour, 5, 3},
		{"a clock that goes back gives back nothing", 0, 5, 0},
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
		t.Error("a bucket is full before its last token is back")
	}
	if !bucket.Full(start.Add(2 * time.Second)) {
		t.Error("a bucket is not full after its last token is back")
	}
}

func TestNextIsWhenTakeSucceeds(t *testing.T) {
	limit := Limit{Every: 100 * time.Millisecond, Burst: 3}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var bucket Bucket
	for bucket.Take(limit, now) {
	}
	next := bucket.Next(limit)
	if early := bucket; early.Take(limit, next.Add(-1)) {
		t.Error("a token was there before")
	}
	if !bucket.Take(limit, next) {
		t.Error("no token was there")
	}
}
