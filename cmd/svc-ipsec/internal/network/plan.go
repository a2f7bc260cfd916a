package network

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Plan is the network that a container should have. state.json has plans without a guard.
type Plan struct {
	Interface  string           `json:"interface"`         // inside
	Chained    bool             `json:"chained,omitempty"` // the interface and its addresses are a runtime's
	MAC        net.HardwareAddr `json:"mac,omitempty"`
	Addresses  []netip.Prefix   `json:"addresses,omitempty"`
	Gateways   []netip.Addr     `json:"gateways,omitempty"`
	Neighbours []Neighbour      `json:"neighbours,omitempty"`
	Routes     []Route          `json:"routes,omitempty"`
	Bridge     string           `json:"bridge,omitempty"`
	Guard      Guard            `json:"-"`
}

// Neighbour is a permanent entry of the gateway.
type Neighbour struct {
	Address netip.Addr       `json:"address"`
	MAC     net.HardwareAddr `json:"mac"`
}

// Route is one route of ours. Without a gateway it is on-link: the destination is asked for on the wire.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway"`
	Source      netip.Addr   `json:"source"`
	MTU         int          `json:"mtu,omitempty"`
}

// Given is what a runtime's previous plugin gave the container (prevResult).
type Given struct {
	Addresses []netip.Prefix
	Gateways  []netip.Addr
}

// Draft plans a container of our own: external addresses as host addresses, the port's addresses + 1, and routes by the
// port's address of the same family as gateway. Where the port has none of that family, routes are on-link: the router
// on the bridge answers for what it routes (proxy ARP), or the peer stands on the same bridge. There is no default route.
func Draft(iface string, port *spec.Port, c *config.Configuration) (*Plan, error) {
	p := &Plan{Interface: iface, MAC: c.ExternalMAC, Guard: draftGuard(c)}
	for _, ip := range c.ExternalIPs {
		p.Addresses = append(p.Addresses, host(ip))
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
			// An external address may be this one, and the kernel takes no IPv6 address twice.
			p.Addresses = slices.DeleteFunc(p.Addresses, func(external netip.Prefix) bool { return external == host(own.Addr()) })
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
		routes.add(host(connection.PeerAddress), connection.LocalAddress, 0)
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

// DraftChained plans for an interface of a runtime's: only the peers' networks get routes.
func DraftChained(iface string, given Given, c *config.Configuration) *Plan {
	p := &Plan{Interface: iface, Chained: true, Addresses: given.Addresses, Guard: draftGuard(c)}
	routes := routeTable{gateways: given.Gateways}
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

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// maxMTU is the largest that the kernel keeps of a route's: it writes down a greater one as this (ip_metrics_convert).
const maxMTU = 65535 - 15

type routeTable struct {
	gateways []netip.Addr
	routes   map[netip.Prefix]Route
}

// add keeps one route a destination: the smallest MTU, and the source of whoever has one.
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

// list leaves out what the addresses themselves bring: the hosts that we are, and the connected networks. And what would
// lead to a gateway by that gateway: the kernel would refuse each route after it.
func (t *routeTable) list(own []netip.Prefix) []Route {
	var list []Route
	for destination, route := range t.routes {
		if !slices.ContainsFunc(own, func(p netip.Prefix) bool {
			return p.Masked() == destination || host(p.Addr()) == destination || t.hides(destination, p)
		}) {
			list = append(list, route)
		}
	}
	slices.SortFunc(list, func(a, b Route) int { return comparePrefix(a.Destination, b.Destination) })
	return list
}

// hides says whether a gateway in the connected network would be looked for behind itself.
func (t *routeTable) hides(destination, connected netip.Prefix) bool {
	return slices.ContainsFunc(t.gateways, func(gateway netip.Addr) bool {
		return connected.Contains(gateway) && destination.Contains(gateway) && destination.Bits() > connected.Bits()
	})
}

// comparePrefix sorts the most specific first, IPv4 before IPv6.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), cmp.Compare(b.Bits(), a.Bits()), a.Addr().Compare(b.Addr()))
}
