package verb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

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
	h := health(ctx, c.request.configuration, d, status, done.refused, c.record.state, !c.record.isNew())
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
		units = append(units, c.request.owner.Name.Unit())
	}
	return c.printObject(plain, units, h)
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

func (c *change) printObject(plain types.Result, units []string, h *spec.Health) error {
	versioned, err := plain.GetAsVersion(c.request.cniVersion)
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	text, err := json.Marshal(versioned)
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	object := map[string]any{}
	if err := json.Unmarshal(text, &object); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	object["units"], object["health"] = units, h
	if last := c.edits.lastValidForRuntime(); last != nil {
		object["lastValid"] = last
	}
	return json.NewEncoder(c.Out).Encode(object)
}

// result returns the CNI result. For a chained container it is the result of the previous plugin.
func (c *change) result() (types.Result, error) {
	if c.request.chained {
		return c.request.previous, nil
	}
	host, err := network.FindHostLink(c.request.owner)
	if err == nil && host == nil {
		err = fmt.Errorf("interface %s: gone", c.request.owner.Name)
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
	result := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: host.Name, Mac: host.MAC.String()},
			{Name: c.network.plan.Interface, Mac: mac.String(), Sandbox: c.attachment.Namespace},
		},
	}
	for _, address := range c.network.plan.Addresses {
		ip := &types100.IPConfig{Interface: types100.Int(1), Address: *network.IPNet(address)}
		for _, gateway := range c.network.plan.Gateways {
			if gateway.Is4() == address.Addr().Is4() && address.Contains(gateway) {
				ip.Gateway = gateway.AsSlice()
			}
		}
		result.IPs = append(result.IPs, ip)
	}
	for _, r := range c.network.plan.Routes {
		route := &types.Route{Dst: *network.IPNet(r.Destination), MTU: r.MTU}
		if r.Gateway.IsValid() {
			route.GW = r.Gateway.AsSlice()
		}
		result.Routes = append(result.Routes, route)
	}
	return result, nil
}
