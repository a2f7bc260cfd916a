package network

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Plan is the network that a container should have. Plans in state.json have no guard.
type Plan struct {
	Interface  string           `json:"interface"`         // name of the interface in the namespace
	Chained    bool             `json:"chained,omitempty"` // a runtime's plugin made the interface and its addresses
	MAC        net.HardwareAddr `json:"mac,omitempty"`
	Addresses  []netip.Prefix   `json:"addresses,omitempty"`
	Gateways   []netip.Addr     `json:"gateways,omitempty"`
	Neighbours []Neighbour      `json:"neighbours,omitempty"`
	Routes     []Route          `json:"routes,omitempty"`
	Bridge     string           `json:"bridge,omitempty"`
	Guard      Guard            `json:"-"`
}

// Neighbour is a permanent neighbour entry for the gateway.
type Neighbour struct {
	Address netip.Addr       `json:"address"`
	MAC     net.HardwareAddr `json:"mac"`
}

// Route is a route of this plugin. A route without a gateway is on-link.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway"`
	Source      netip.Addr   `json:"source"`
	MTU         int          `json:"mtu,omitempty"`
}

// PrevResult has the addresses and gateways that a runtime's previous plugin configured (prevResult).
type PrevResult struct {
	Addresses []netip.Prefix
	Gateways  []netip.Addr
}

// NewPlan returns the plan for an interface that this plugin creates. The external addresses become host addresses. For
// each address of the port, the container gets the next higher address, and the port's address is the gateway of the
// routes of that family. If the port has no address of a family, its routes are on-link: the router on the bridge
// answers for the networks that it routes (proxy ARP), or the peer is on the same bridge. There is no default route.
func NewPlan(iface string, port *spec.Port, c *config.Configuration) (*Plan, error) {
	p := &Plan{Interface: iface, MAC: c.ExternalMAC, Guard: newGuard(c)}
	for _, ip := range c.ExternalIPs {
		p.Addresses = append(p.Addresses, hostPrefix(ip))
	}
	if port != nil {
		if err := port.Check(); err != nil {
			return nil, inPort(err)
		}
		p.Bridge = port.Bridge
		for _, s := range port.Addresses {
			gateway, err := spec.ParseCIDR("port.addresses", s)
			if err != nil {
				return nil, err
			}
			p.Gateways = append(p.Gateways, gateway.Addr())
			own := netip.PrefixFrom(gateway.Addr().Next(), gateway.Bits())
			// An external address may equal this address, and the kernel refuses a second IPv6 address.
			p.Addresses = slices.DeleteFunc(p.Addresses, func(external netip.Prefix) bool {
				return external == hostPrefix(own.Addr())
			})
			p.Addresses = append(p.Addresses, own)
			if port.MAC != "" {
				mac, err := spec.ParseMAC("port.mac", port.MAC)
				if err != nil {
					return nil, err
				}
				p.Neighbours = append(p.Neighbours, Neighbour{gateway.Addr(), mac})
			}
		}
	}
	routes := routeTable{gateways: p.Gateways}
	for _, connection := range c.Wanted() {
		routes.add(hostPrefix(connection.PeerAddress), connection.LocalAddress, 0)
		for _, pair := range connection.Pairs() {
			if pair.Host {
				continue
			}
			routes.add(pair.Local, netip.Addr{}, 0)
			routes.add(pair.Peer, netip.Addr{}, connection.MTU)
		}
	}
	p.Routes = routes.list(p.Addresses)
	return p, nil
}

// NewChainedPlan returns the plan for an interface that a runtime's plugin made. Only the peers' networks get routes.
func NewChainedPlan(iface string, prev PrevResult, c *config.Configuration) *Plan {
	p := &Plan{Interface: iface, Chained: true, Addresses: prev.Addresses, Guard: newGuard(c)}
	routes := routeTable{gateways: prev.Gateways}
	for _, connection := range c.Wanted() {
		for _, pair := range connection.Pairs() {
			if !pair.Host {
				routes.add(pair.Peer, netip.Addr{}, connection.MTU)
			}
		}
	}
	p.Routes = routes.list(p.Addresses)
	return p
}

func inPort(err error) error {
	if f, ok := err.(*spec.Fault); ok {
		return &spec.Fault{Key: "port." + f.Key, Value: f.Value, Allowed: f.Allowed}
	}
	return err
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// maxMTU is the largest MTU of a route in the kernel. The kernel stores a larger value as this one
// (ip_metrics_convert).
const maxMTU = 65535 - 15

type routeTable struct {
	gateways []netip.Addr
	routes   map[netip.Prefix]Route
}

// add adds a route. If there are several routes to a destination, they become one with the smallest MTU and with the
// source of the route that has one.
func (t *routeTable) add(destination netip.Prefix, source netip.Addr, mtu int) {
	if t.routes == nil {
		t.routes = map[netip.Prefix]Route{}
	}
	route, ok := t.routes[destination]
	if !ok {
		route = Route{Destination: destination}
		for _, gateway := range t.gateways {
			if gateway.Is4() == destination.Addr().Is4() {
				route.Gateway = gateway
			}
		}
	}
	if source.IsValid() {
		route.Source = source
	}
	mtu = min(mtu, maxMTU)
	if mtu > 0 && (route.MTU == 0 || mtu < route.MTU) {
		route.MTU = mtu
	}
	t.routes[destination] = route
}

// list returns the routes, except those that exist because of the addresses: to the container's own addresses and to
// connected networks. It also leaves out routes that lead to a gateway through that gateway, because the kernel would
// refuse every later route.
func (t *routeTable) list(own []netip.Prefix) []Route {
	var list []Route
	for destination, route := range t.routes {
		if !slices.ContainsFunc(own, func(p netip.Prefix) bool {
			return p.Masked() == destination || hostPrefix(p.Addr()) == destination || t.hidesGateway(destination, p)
		}) {
			list = append(list, route)
		}
	}
	slices.SortFunc(list, func(a, b Route) int { return comparePrefix(a.Destination, b.Destination) })
	return list
}

// hidesGateway reports whether a route to destination would lead to a gateway in the connected network through that
// gateway.
func (t *routeTable) hidesGateway(destination, connected netip.Prefix) bool {
	return slices.ContainsFunc(t.gateways, func(gateway netip.Addr) bool {
		return connected.Contains(gateway) && destination.Contains(gateway) && destination.Bits() > connected.Bits()
	})
}

// comparePrefix sorts IPv4 before IPv6, and then the longest prefix first.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), cmp.Compare(b.Bits(), a.Bits()),
		a.Addr().Compare(b.Addr()))
}
