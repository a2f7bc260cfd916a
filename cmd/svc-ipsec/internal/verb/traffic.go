package verb

import (
	"maps"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// quietAfter is how long a tunnel that sends may receive nothing before its health has a note.
const quietAfter = 30 * time.Second

// received compares the counters of the tunnels that are up with those of an earlier CHECK. The counters start at 0 with each
// new SA.
func received(before map[string]state.Traffic, up map[string]libreswan.Traffic, now time.Time) map[string]state.Traffic {
	var after map[string]state.Traffic
	for conn, counted := range up {
		last, known := before[conn]
		switch {
		case !known && counted.In == 0:
			last = state.Traffic{Received: counted.Since}
		case !known, counted.In > last.In, counted.In < last.In && counted.In > 0:
			last = state.Traffic{In: counted.In, Out: counted.Out, Received: now}
		case counted.In < last.In, counted.Out < last.Out: // a new SA that has received nothing
			last.In, last.Out = 0, 0
		}
		if last.Received.After(now) { // the clock was set back
			last.Received = now
		}
		last.Received = last.Received.UTC().Truncate(time.Second)
		if after == nil {
			after = map[string]state.Traffic{}
		}
		after[conn] = last
	}
	return after
}

// quiet returns since when a tunnel has received nothing although it sends; ok is false if that is not so, or not for long.
func quiet(t state.Traffic, counted libreswan.Traffic, now time.Time) (since time.Time, ok bool) {
	return t.Received, counted.In == t.In && counted.Out > t.Out && now.Sub(t.Received) >= quietAfter
}

// keepTraffic records what the tunnels received, so that a later CHECK can find out which of them receive nothing. It writes only if
// one has received something, or has come up or gone down, and never beside the files of release 0.1.0, which the next ADD
// replaces.
func keepTraffic(folder *state.Directory, s *state.State, v *view, now time.Time) error {
	after := received(s.Traffic, v.up, now)
	if s.Version == 0 || maps.Equal(after, s.Traffic) {
		return nil
	}
	s.Traffic = after
	return folder.Save(s)
}
