package verb

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// print writes ADD's result: CNI's, in the version that was asked for, with the units and the health.
func (c *change) print(ctx context.Context) error {
	plain, err := c.result()
	if err != nil {
		return err
	}
	d, wanted := c.daemon(c.tools, c.request.owner, c.folder.Path, c.recorded), c.request.configuration.Wanted()
	v := c.view
	if v == nil {
		if v, err = see(ctx, wanted, d, c.attachment.Namespace); err != nil {
			return err
		}
	}
	h := health(ctx, c.request.configuration, d, v, c.refused, c.recorded, c.before != nil)
	retried, err := c.retryResting(ctx, d, v)
	if err != nil {
		return err
	}
	h.Again = soonest(h.Again, retried)
	if c.unread {
		h.Again = soonest(h.Again, &spec.Again{After: seconds(unreadRetry), Reason: "the key database could not be read, or did not take a certificate"})
	}
	units := []string{}
	if len(c.request.configuration.Wanted()) > 0 {
		units = append(units, c.request.owner.Name.Unit())
	}
	return c.printObject(plain, units, h)
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
	if last := c.toHandBack(); last != nil {
		object["lastValid"] = last
	}
	return json.NewEncoder(c.Out).Encode(object)
}

// result is what was made; after another plugin it is that one's, handed on.
func (c *change) result() (types.Result, error) {
	if c.request.chained {
		return c.request.previous, nil
	}
	host, err := network.ObserveHost(c.request.owner)
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
	mac, err := namespace.MAC(c.plan.Interface)
	if err != nil {
		return nil, err
	}
	result := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: host.Name, Mac: host.MAC.String()},
			{Name: c.plan.Interface, Mac: mac.String(), Sandbox: c.attachment.Namespace},
		},
	}
	for _, address := range c.plan.Addresses {
		ip := &types100.IPConfig{Interface: types100.Int(1), Address: *network.IPNet(address)}
		for _, gateway := range c.plan.Gateways {
			if gateway.Is4() == address.Addr().Is4() && address.Contains(gateway) {
				ip.Gateway = gateway.AsSlice()
			}
		}
		result.IPs = append(result.IPs, ip)
	}
	for _, r := range c.plan.Routes {
		route := &types.Route{Dst: *network.IPNet(r.Destination), MTU: r.MTU}
		if r.Gateway.IsValid() {
			route.GW = r.Gateway.AsSlice()
		}
		result.Routes = append(result.Routes, route)
	}
	return result, nil
}
