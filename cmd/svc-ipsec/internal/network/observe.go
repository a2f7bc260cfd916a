package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/broken"
)

// MAC returns the hardware address of an interface in the namespace.
func (n *Namespace) MAC(iface string) (net.HardwareAddr, error) {
	link, err := n.handle.LinkByName(iface)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", iface, err)
	}
	return link.Attrs().HardwareAddr, nil
}

// Verify compares the namespace with the plan. A difference is returned as an error of package broken; other errors
// mean that the namespace could not be read.
func (n *Namespace) Verify(p *Plan) error {
	link, err := n.handle.LinkByName(p.Interface)
	if notFound(err) {
		return broken.Errorf("interface %s is gone", p.Interface)
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", p.Interface, err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return broken.Errorf("%s is down", p.Interface)
	}
	if p.MAC != nil && link.Attrs().HardwareAddr.String() != p.MAC.String() {
		return broken.Errorf("%s has MAC %s, not %s", p.Interface, link.Attrs().HardwareAddr, p.MAC)
	}
	i := nsInterface{n.handle, link}
	present, err := i.addresses()
	if err != nil {
		return err
	}
	for _, want := range p.Addresses {
		if _, ok := present[want]; !ok {
			return broken.Errorf("%s has lost address %s", p.Interface, want)
		}
	}
	list, err := i.routes()
	if err != nil {
		return err
	}
	routes := ownRoutes(list, link)
	for _, want := range p.wantedRoutes(list, link) {
		if _, ok := routes[want]; !ok && !(p.Chained && hasRouteTo(routes, want.Destination)) {
			return broken.Errorf("%s has lost its route to %s", p.Interface, want.Destination)
		}
	}
	return nil
}

// WrongNeighbour compares the neighbour entries of the gateways with the plan. It returns a difference, which ADD
// corrects in place, or "" if there is none.
func (n *Namespace) WrongNeighbour(p *Plan) (string, error) {
	link, err := n.handle.LinkByName(p.Interface)
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", p.Interface, err)
	}
	present, err := nsInterface{n.handle, link}.neighbours()
	if err != nil {
		return "", err
	}
	missing := missingNeighbours(present, p.Neighbours)
	if len(missing) == 0 {
		return "", nil
	}
	first := missing[0]
	return fmt.Sprintf("the neighbour entry of gateway %s does not have MAC %s", first.Address, first.MAC), nil
}

// hasRouteTo reports whether there is a route to exactly this network, by any gateway. In a runtime's namespace other
// programs may change the gateways.
func hasRouteTo(routes map[Route]netlink.Route, to netip.Prefix) bool {
	for route := range routes {
		if route.Destination == to {
			return true
		}
	}
	return false
}

// RemoveOwnRoutes removes the routes of this plugin from a runtime's namespace. The interface stays, and so
// does the guard (InstalledGuard.Remove).
func (n *Namespace) RemoveOwnRoutes(iface string) error {
	link, err := n.handle.LinkByName(iface)
	if notFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", iface, err)
	}
	list, err := nsInterface{n.handle, link}.routes()
	if err != nil {
		return err
	}
	for _, route := range ownRoutes(list, link) {
		if err := n.handle.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route to %s: %w", route.Dst, err)
		}
	}
	return nil
}

// HasAddresses reports whether an interface in the namespace has all of these addresses, with any prefix length.
func (n *Namespace) HasAddresses(iface string, addresses []netip.Addr) (bool, error) {
	link, err := n.handle.LinkByName(iface)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", iface, err)
	}
	present, err := nsInterface{n.handle, link}.addresses()
	if err != nil {
		return false, err
	}
	found := map[netip.Addr]bool{}
	for p := range present {
		found[p.Addr()] = true
	}
	for _, a := range addresses {
		if !found[a] {
			return false, nil
		}
	}
	return true, nil
}
