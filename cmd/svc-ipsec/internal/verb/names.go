package verb

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Intervals of the lookups of peer names. Go's resolver does not return the TTL of an answer.
const (
	nameInterval = 300 * time.Second
	nameRetry    = 30 * time.Second
)

// lookUpPeers resolves the names of the peers. If the lookup of a name fails, the address of the last successful ADD is
// used.
func (c *change) lookUpPeers(ctx context.Context, last map[string]config.Name) map[string]config.Name {
	network := addressFamilies(c.request.configuration.ExternalIPs)
	if network == "" {
		return nil // no external address, so no connection can run
	}
	if c.names == nil {
		c.names = map[string]config.Name{}
	}
	wanted := c.request.configuration.PeerNames()
	unknown := slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { _, known := c.names[name]; return known })
	for name, answer := range lookup.Names(ctx, c.LookUp, network, unknown) {
		if answer.Fault != "" {
			c.names[name] = config.Name{Address: last[name].Address, Fault: answer.Fault}
		} else {
			c.names[name] = config.Name{Address: chooseAddress(answer.Addresses, last[name].Address)}
		}
	}
	names := map[string]config.Name{}
	for _, name := range wanted {
		names[name] = c.names[name]
	}
	return names
}

// addressFamilies returns the network argument for the resolver: the address families for which the container has an
// external address, or "" if it has none.
func addressFamilies(external []netip.Addr) string {
	four := slices.ContainsFunc(external, netip.Addr.Is4)
	six := slices.ContainsFunc(external, netip.Addr.Is6)
	switch {
	case four && six:
		return "ip"
	case four:
		return "ip4"
	case six:
		return "ip6"
	}
	return ""
}

// chooseAddress keeps the last address as long as the name resolves to it. DNS servers return addresses in varying
// order, and a change of address interrupts the tunnel.
func chooseAddress(addresses []netip.Addr, last netip.Addr) netip.Addr {
	if slices.Contains(addresses, last) {
		return last
	}
	return addresses[0]
}

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
