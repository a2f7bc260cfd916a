package verb

import (
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// seconds returns a duration in seconds, rounded up, and 0 for a negative one.
func seconds(d time.Duration) int { return int((max(d, 0) + time.Second - 1) / time.Second) }

// earliest returns the request that is due first, or nil if all requests are nil.
func earliest(requests ...*spec.Again) *spec.Again {
	var first *spec.Again
	for _, request := range requests {
		if request != nil && (first == nil || request.After < first.After) {
			first = request
		}
	}
	return first
}

// completion returns the request for the ADD that completes an incomplete reconfigure, or nil.
func completion(s *state.State) *spec.Again {
	if s.Incomplete == nil {
		return nil
	}
	return &spec.Again{Reason: "a reconfigure is incomplete"}
}

// againForRefused asks for an ADD that loads the conns again that the daemon refused at the given time, so that a
// temporary fault does not last until the next edit. A conn with an ID that Libreswan misreads is not retried, because
// the result would be the same.
func againForRefused(refused map[string]string, at, now time.Time) *spec.Again {
	for _, reason := range refused {
		if !strings.Contains(reason, misreadID) {
			after := seconds(min(endpoint.LastRetry, endpoint.LastRetry-now.Sub(at)))
			return &spec.Again{After: after, Reason: "retrying a connection that the daemon refused"}
		}
	}
	return nil
}

// Intervals of the lookups of peer names. Go's resolver does not return the TTL of an answer.
const (
	nameInterval = 300 * time.Second
	nameRetry    = 30 * time.Second
)

// againForNames returns the request for the ADD that resolves the peer names again, or nil if there are none.
func againForNames(found config.Found, now time.Time) *spec.Again {
	if len(found.Names) == 0 {
		return nil
	}
	wait, reason := nameInterval, "peer name expires"
	for _, name := range found.Names {
		if name.Fault != "" {
			wait, reason = nameRetry, "peer name not found"
		}
	}
	left := min(wait, max(0, wait-now.Sub(found.At)))
	return &spec.Again{After: int(left.Round(time.Second) / time.Second), Reason: reason}
}

// againForStalled returns the request for the ADD that initiates stalled conns, or nil if there are none.
func againForStalled(connections *endpoint.Connections, recorded state.Retry, now time.Time) *spec.Again {
	wait, stalled := connections.NextADD(endpoint.Schedule(recorded), now)
	if !stalled {
		return nil
	}
	return &spec.Again{After: seconds(wait), Reason: "retrying tunnels that are down"}
}

// connectionsOf returns what the retry of stalled conns depends on. root is the directory with the cached results about
// the kernel.
func connectionsOf(root string, wanted []*config.Connection, status *daemonStatus) *endpoint.Connections {
	return &endpoint.Connections{
		Wanted: wanted,
		Supported: slices.DeleteFunc(slices.Clone(wanted), func(c *config.Connection) bool {
			return len(unsupportedMessages(root, []*config.Connection{c})) > 0
		}),
		Status: status.plain(),
	}
}
