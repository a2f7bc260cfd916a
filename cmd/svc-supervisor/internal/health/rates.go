package health

import (
	"fmt"
	"maps"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/tokenbucket"
)

// rate limits the datagrams that are handled for each container.
var rate = tokenbucket.Limit{Every: 100 * time.Millisecond, Burst: 100}

var errRate = fmt.Errorf("more than %d in a row and then %d per second", rate.Burst, time.Second/rate.Every)

// rates has a token bucket for each container with recent pushes.
type rates struct {
	buckets map[spec.Name]*tokenbucket.Bucket
	swept   time.Time // when the full buckets were last removed
}

// take reports whether a datagram for a container is within the limit.
func (r *rates) take(name spec.Name, now time.Time) bool {
	if full := rate.Every * time.Duration(rate.Burst); now.Sub(r.swept) >= full {
		r.swept = now
		maps.DeleteFunc(r.buckets, func(_ spec.Name, b *tokenbucket.Bucket) bool { return b.Full(now) })
	}
	bucket := r.buckets[name]
	if bucket == nil {
		if r.buckets == nil {
			r.buckets = map[spec.Name]*tokenbucket.Bucket{}
		}
		bucket = new(tokenbucket.Bucket)
		r.buckets[name] = bucket
	}
	return bucket.Take(rate, now)
}
