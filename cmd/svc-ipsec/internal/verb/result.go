package verb

import (
	"context"
	"fmt"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// print writes the result of ADD: the CNI result in the requested version, with units and health.
func (c *change) print(ctx context.Context) error {
	plain, err := c.result()
	if err != nil {
		return err
	}
	d, done, wanted := c.newDaemon(), c.daemon.result, c.daemon.wanted
	status := done.status
	if status == nil {
		if status, err = observe(ctx, wanted, d, c.attachment.Namespace); err != nil {
			return err
		}
	}
	h := health(ctx, c.request.Configuration, d, status, done.refused, c.record.state, !c.record.isNew())
	retried, err := c.retryStalled(ctx, status)
	if err != nil {
		return err
	}
	h.Again = earliest(h.Again, retried)
	if c.daemon.database.failed {
		h.Again = earliest(h.Again, &spec.Again{
			After:  seconds(databaseRetry),
			Reason: "the key database could not be read, or a certificate could not be imported",
		})
	}
	units := []string{}
	if len(wanted) > 0 {
		units = append(units, c.request.Owner.Name.Unit())
	}
	answer := cni.Added{
		Version: c.request.CNIVersion, Result: plain, Units: units, Health: h, LastValid: c.edits.lastValidForRuntime(),
	}
	return answer.Encode(c.Out)
}

// retryStalled initiates stalled conns if an attempt is due, and returns the request for the next ADD. It saves the
// schedule after the attempt: if the verb is killed in between, the attempt is repeated.
func (c *change) retryStalled(ctx context.Context, status *daemonStatus) (*spec.Again, error) {
	now := time.Now()
	connections := connectionsOf(c.Root, c.daemon.wanted, status)
	s := c.record.state
	actions, schedule := connections.Retry(endpoint.Schedule(s.Retry), c.daemon.result.connsLoaded, now)
	if err := c.daemon.do(ctx, actions); err != nil {
		return nil, err
	}
	if retry := state.Retry(schedule); retry != s.Retry {
		s.Retry = retry
		if err := c.record.save(); err != nil {
			return nil, err
		}
	}
	return againForStalled(connections, state.Retry(schedule), now), nil
}

// result returns the CNI result. For a chained container it is the result of the previous plugin.
func (c *change) result() (types.Result, error) {
	if c.request.Chained {
		return c.request.Previous, nil
	}
	host, err := network.FindHostLink(c.request.Owner)
	if err == nil && host == nil {
		err = fmt.Errorf("interface %s: gone", c.request.Owner.Name)
	}
	if err != nil {
		return nil, err
	}
	namespace, err := network.Open(c.attachment.Namespace)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	mac, err := namespace.MAC(c.network.plan.Interface)
	if err != nil {
		return nil, err
	}
	return cni.NewResult(c.network.plan, host.Name, host.MAC, mac, c.attachment.Namespace), nil
}
