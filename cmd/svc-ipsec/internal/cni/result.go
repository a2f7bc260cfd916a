package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Added is the answer of ADD.
type Added struct {
	Version   string // of the CNI specification, as the runtime requested it
	Result    types.Result
	Units     []string
	Health    *spec.Health
	LastValid json.RawMessage // nil: the answer has no such key
}

// Encode writes the answer of ADD: the CNI result in the requested version, with the keys of this project's contract.
func (a *Added) Encode(w io.Writer) error {
	versioned, err := a.Result.GetAsVersion(a.Version)
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
	object["units"], object["health"] = a.Units, a.Health
	if a.LastValid != nil {
		object["lastValid"] = a.LastValid
	}
	return json.NewEncoder(w).Encode(object)
}

// NewResult returns the CNI result of a container with an interface of its own. hostName and hostMAC are those of the
// host's end of the veth; mac is that of the container's end, and namespace the path of its network namespace.
func NewResult(plan *network.Plan, hostName string, hostMAC, mac net.HardwareAddr, namespace string) types.Result {
	result := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: hostName, Mac: hostMAC.String()},
			{Name: plan.Interface, Mac: mac.String(), Sandbox: namespace},
		},
	}
	for _, address := range plan.Addresses {
		ip := &types100.IPConfig{Interface: types100.Int(1), Address: *network.IPNet(address)}
		for _, gateway := range plan.Gateways {
			if gateway.Is4() == address.Addr().Is4() && address.Contains(gateway) {
				ip.Gateway = gateway.AsSlice()
			}
		}
		result.IPs = append(result.IPs, ip)
	}
	for _, r := range plan.Routes {
		route := &types.Route{Dst: *network.IPNet(r.Destination), MTU: r.MTU}
		if r.Gateway.IsValid() {
			route.GW = r.Gateway.AsSlice()
		}
		result.Routes = append(result.Routes, route)
	}
	return result
}
