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
	present, err := n.addresses(link)
	if err != nil {
		return err
	}
	for _, want := range p.Addresses {
		if _, ok := present[want]; !ok {
			return broken.Errorf("%s has lost address %s", p.Interface, want)
		}
	}
	list, err := n.routes()
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

// RemoveOwnRoutes removes the routes of this plugin from a runtime's namespace. The interface stays; RemoveGuard
// removes the guard.
func (n *Namespace) RemoveOwnRoutes(iface string) error {
	link, err := n.handle.LinkByName(iface)
	if notFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", iface, err)
	}
	list, err := n.routes()
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
	present, err := n.addresses(link)
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

// FlushXFRM removes all policies and SAs that a killed daemon left in the kernel, and the block policies of the guard.
func (n *Namespace) FlushXFRM() error {
	if err := n.handle.XfrmPolicyFlush(); err != nil {
		return fmt.Errorf("flush policies: %w", err)
	}
	if err := n.handle.XfrmStateFlush(0); err != nil {
		return fmt.Errorf("flush states: %w", err)
	}
	return nil
}

// RemoveTunnels removes the policies and SAs that a killed daemon left in the kernel. The block policies of the guard
// stay.
func (n *Namespace) RemoveTunnels() error {
	policies, err := n.policies()
	if err != nil {
		return err
	}
	return removeTunnels(n.handle, policies, func(p policy) bool { return !isBlockPolicy(p) })
}

// RemoveTunnels removes from the network namespace of the calling program the SAs and policies of a killed daemon,
// because Libreswan 4.10 removes only those that it created itself. The block policies of the guard stay.
func RemoveTunnels() error {
	handle, err := netlink.NewHandle(unix.NETLINK_XFRM)
	if err != nil {
		return fmt.Errorf("open XFRM socket: %w", err)
	}
	defer handle.Close()
	policies, err := listPolicies()
	if err != nil {
		return err
	}
	return removeTunnels(handle, policies, func(p policy) bool { return p.action == netlink.XFRM_POLICY_ALLOW })
}

// removeTunnels removes all SAs, and the policies for which selects returns true.
func removeTunnels(handle *netlink.Handle, policies []policy, selects func(policy) bool) error {
	for _, p := range policies {
		if !selects(p) {
			continue
		}
		if err := handle.XfrmPolicyDel(p.message()); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete policy: %w", err)
		}
	}
	if err := handle.XfrmStateFlush(0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("flush states: %w", err)
	}
	return nil
}
