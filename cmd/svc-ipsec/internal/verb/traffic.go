package verb

import (
	"maps"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// quietAfter is how long a tunnel that sends may receive nothing before its health reports that.
const quietAfter = 30 * time.Second

// updateTraffic compares the counters of the tunnels that are up with those of an earlier CHECK, and returns the new
// record. The counters start at 0 with each new SA.
func updateTraffic(before map[string]state.Traffic, up map[string]libreswan.Traffic,
	now time.Time,
) map[string]state.Traffic {
	var after map[string]state.Traffic
	for conn, counted := range up {
		last, known := before[conn]
		switch {
		case !known && counted.In == 0:
			last = state.Traffic{Received: counted.Since}
		case !known, counted.In > last.In, counted.In < last.In && counted.In > 0:
			last = state.Traffic{In: counted.In, Out: counted.Out, Received: now}
		case counted.In < last.In, counted.Out < last.Out: // a new SA that has received nothing yet
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

// receivesNothing returns since when a tunnel has received nothing although it sends. ok is false if it receives
// packets, sends none, or has received nothing for less than quietAfter.
func receivesNothing(t state.Traffic, counted libreswan.Traffic, now time.Time) (since time.Time, ok bool) {
	return t.Received, counted.In == t.In && counted.Out > t.Out && now.Sub(t.Received) >= quietAfter
}

// recordTraffic records what the tunnels have received, so that a later CHECK can determine which of them receive
// nothing. It writes state.json only if a tunnel has received something, has come up or has gone down. It writes
// nothing for a container with files of release 0.1.0, which the next ADD replaces.
func recordTraffic(dir *state.Directory, s *state.State, status *daemonStatus, now time.Time) error {
	after := updateTraffic(s.Traffic, status.up, now)
	if s.Version == 0 || maps.Equal(after, s.Traffic) {
		return nil
	}
	s.Traffic = after
	return dir.Save(s)
}
