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

// When a peer's name is looked up again: Go's resolver does not tell how long an answer holds.
const (
	nameHolds = 300 * time.Second
	nameRetry = 30 * time.Second
)

// lookUpPeers finds the peers' addresses. A name that is not found keeps the address that the last good ADD found.
func (c *change) lookUpPeers(ctx context.Context, last map[string]config.Name) map[string]config.Name {
	network := families(c.request.configuration.ExternalIPs)
	if network == "" {
		return nil // nothing can run
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
			c.names[name] = config.Name{Address: choose(answer.Addresses, last[name].Address)}
		}
	}
	names := map[string]config.Name{}
	for _, name := range wanted {
		names[name] = c.names[name]
	}
	return names
}

// families says which addresses are asked for: those that there is an external address to talk to them from.
func families(external []netip.Addr) string {
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

// choose stays with the address in use as long as the name has it: servers answer in another order each time, and every
// change costs the tunnel.
func choose(addresses []netip.Addr, last netip.Addr) netip.Addr {
	if slices.Contains(addresses, last) {
		return last
	}
	return addresses[0]
}

// nextLook asks for the ADD that looks at the peers' names again.
func nextLook(found config.Found, now time.Time) *spec.Again {
	if len(found.Names) == 0 {
		return nil
	}
	wait, reason := nameHolds, "peer name expires"
	for _, name := range found.Names {
		if name.Fault != "" {
			wait, reason = nameRetry, "peer name not found"
		}
	}
	left := min(wait, max(0, wait-now.Sub(found.At)))
	return &spec.Again{After: int(left.Round(time.Second) / time.Second), Reason: reason}
}
