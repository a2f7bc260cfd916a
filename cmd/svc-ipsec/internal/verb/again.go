package verb

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

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

// retryStalled initiates stalled conns if an attempt is due, and returns the request for the next ADD. It saves the
// schedule after the attempt: if the verb is killed in between, the attempt is repeated.
func (c *change) retryStalled(ctx context.Context, d *libreswan.Daemon, status *daemonStatus) (*spec.Again, error) {
	now := time.Now()
	connections := connectionsOf(c.Root, c.request.configuration.Wanted(), status)
	actions, schedule := connections.Retry(endpoint.Schedule(c.recorded.Retry), c.connsLoaded, now)
	if err := c.do(ctx, d, actions); err != nil {
		return nil, err
	}
	if retry := state.Retry(schedule); retry != c.recorded.Retry {
		c.recorded.Retry = retry
		if err := c.dir.Save(c.recorded); err != nil {
			return nil, err
		}
	}
	return againForStalled(connections, state.Retry(schedule), now), nil
}
