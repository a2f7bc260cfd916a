package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// protocol marks the routes of this plugin in the kernel's table, so that a change or a removal affects only these.
const protocol = netlink.RouteProtocol(83)

// Apply makes the interface match the plan. It changes only what differs, so that an edit of one connection does not
// interrupt the packets of another.
func (n *Namespace) Apply(p *Plan) error {
	link, err := n.handle.LinkByName(p.Interface)
	if err != nil {
		return fmt.Errorf("look for %s: %w", p.Interface, err)
	}
	if err := n.Sysctls().applyInterface(p.Interface, !p.Chained); err != nil {
		return err
	}
	i := nsInterface{n.handle, link}
	if !p.Chained {
		if err := i.applyLink(p); err != nil {
			return err
		}
	}
	list, err := i.routes()
	if err != nil {
		return err
	}
	return i.applyRoutes(ownRoutes(list, link), p.wantedRoutes(list, link))
}

// LimitMTU lowers the MTU of the container's end of the veth pair to that of the host's end, which has the MTU of its
// bridge. The kernel drops packets that are larger than the receiving end's MTU, without an ICMP message.
func (n *Namespace) LimitMTU(name string, owner spec.Owner) error {
	host, err := netlink.LinkByName(string(owner.Name))
	if err != nil {
		return fmt.Errorf("look for %s: %w", owner.Name, err)
	}
	link, err := n.handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look for %s: %w", name, err)
	}
	if link.Attrs().MTU <= host.Attrs().MTU {
		return nil
	}
	if err := n.handle.LinkSetMTU(link, host.Attrs().MTU); err != nil {
		return fmt.Errorf("set the MTU of %s to that of %s: %w", name, owner.Name, err)
	}
	return nil
}

// nsInterface is an interface in a namespace, with its addresses, neighbours and routes.
type nsInterface struct {
	handle *netlink.Handle
	link   netlink.Link
}

func (i nsInterface) applyLink(p *Plan) error {
	if p.MAC != nil && i.link.Attrs().HardwareAddr.String() != p.MAC.String() {
		if err := i.handle.LinkSetHardwareAddr(i.link, p.MAC); err != nil {
			return fmt.Errorf("set MAC %s of %s: %w", p.MAC, p.Interface, err)
		}
	}
	if lo, err := i.handle.LinkByName("lo"); err == nil {
		if err := i.handle.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring lo up: %w", err)
		}
	}
	if err := i.applyAddresses(p.Addresses); err != nil {
		return err
	}
	if err := i.handle.LinkSetUp(i.link); err != nil {
		return fmt.Errorf("bring %s up: %w", p.Interface, err)
	}
	return i.applyNeighbours(p.Neighbours)
}

func (i nsInterface) addresses() (map[netip.Prefix]netlink.Addr, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return i.handle.AddrList(i.link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", i.link.Attrs().Name, err)
	}
	present := map[netip.Prefix]netlink.Addr{}
	for _, a := range list {
		present[prefix(a.IPNet)] = a
	}
	return present, nil
}

func (i nsInterface) applyAddresses(wanted []netip.Prefix) error {
	present, err := i.addresses()
	if err != nil {
		return err
	}
	for _, want := range wanted {
		if _, ok := present[want]; ok {
			delete(present, want)
			continue
		}
		a := &netlink.Addr{IPNet: IPNet(want)}
		if !want.Addr().Is4() {
			// No duplicate address detection: the address is routed to this container, so no other host on the link has
			// it, and the daemon must be able to bind to it at once.
			a.Flags = unix.IFA_F_NODAD
			// The kernel refuses an IPv6 address that the interface already has, whatever the prefix length.
			for old, same := range present {
				if old.Addr() != want.Addr() {
					continue
				}
				if err := i.handle.AddrDel(i.link, &same); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
					return fmt.Errorf("remove %s from %s: %w", old, i.link.Attrs().Name, err)
				}
				delete(present, old)
			}
		}
		if err := i.handle.AddrAdd(i.link, a); err != nil {
			return fmt.Errorf("add %s to %s: %w", want, i.link.Attrs().Name, err)
		}
	}
	for old, a := range present {
		if old.Addr().IsLinkLocalUnicast() && !old.Addr().Is4() {
			continue // set by the kernel
		}
		if err := i.handle.AddrDel(i.link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from %s: %w", old, i.link.Attrs().Name, err)
		}
	}
	return nil
}

// neighbours returns the permanent neighbour entries.
func (i nsInterface) neighbours() (map[netip.Addr]netlink.Neigh, error) {
	list, err := dump(func() ([]netlink.Neigh, error) {
		return i.handle.NeighList(i.link.Attrs().Index, netlink.FAMILY_ALL)
	})
	if err != nil {
		return nil, fmt.Errorf("list neighbours of %s: %w", i.link.Attrs().Name, err)
	}
	present := map[netip.Addr]netlink.Neigh{}
	for _, entry := range list {
		if entry.State&netlink.NUD_PERMANENT != 0 {
			present[address(entry.IP)] = entry
		}
	}
	return present, nil
}

// missingNeighbours returns the wanted entries that do not exist or have another MAC.
func missingNeighbours(present map[netip.Addr]netlink.Neigh, wanted []Neighbour) (missing []Neighbour) {
	for _, want := range wanted {
		if entry, ok := present[want.Address]; !ok || entry.HardwareAddr.String() != want.MAC.String() {
			missing = append(missing, want)
		}
	}
	return missing
}

func (i nsInterface) applyNeighbours(wanted []Neighbour) error {
	present, err := i.neighbours()
	if err != nil {
		return err
	}
	for _, want := range missingNeighbours(present, wanted) {
		entry := &netlink.Neigh{LinkIndex: i.link.Attrs().Index, Family: familyOf(want.Address),
			State: netlink.NUD_PERMANENT, IP: want.Address.AsSlice(), HardwareAddr: want.MAC}
		if err := i.handle.NeighSet(entry); err != nil {
			return fmt.Errorf("set neighbour %s: %w", want.Address, err)
		}
	}
	for _, want := range wanted {
		delete(present, want.Address)
	}
	for old, entry := range present {
		if err := i.handle.NeighDel(&entry); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove neighbour %s: %w", old, err)
		}
	}
	return nil
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// routes returns the routes of the main table, for all interfaces.
func (i nsInterface) routes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := dump(
			func() ([]netlink.Route, error) { return i.handle.RouteListFiltered(family, &netlink.Route{}, 0) })
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// ownRoutes returns the routes of this plugin on the interface.
func ownRoutes(list []netlink.Route, link netlink.Link) map[Route]netlink.Route {
	present := map[Route]netlink.Route{}
	for _, route := range list {
		if route.Protocol == protocol && route.LinkIndex == link.Attrs().Index {
			key := Route{
				Destination: prefix(route.Dst), Gateway: address(route.Gw), Source: address(route.Src), MTU: route.MTU,
			}
			present[key] = route
		}
	}
	return present
}

// wantedRoutes returns the routes of the plan that this plugin has to make. In a runtime's namespace it leaves out a
// route that the runtime has already, because replacing it could not be undone. Policies and guard work without a route
// of this plugin; only its MTU is lost. If the runtime named no gateway, a route uses the gateway of the runtime's own
// route: an on-link route could hide the path to the daemon's peers.
func (p *Plan) wantedRoutes(list []netlink.Route, link netlink.Link) []Route {
	if !p.Chained {
		return p.Routes
	}
	var wanted []Route
	for _, want := range p.Routes {
		switch other := mostSpecificOther(list, want.Destination); {
		case other == nil:
		case prefix(other.Dst) == want.Destination:
			continue
		case !want.Gateway.IsValid() && other.LinkIndex == link.Attrs().Index:
			want.Gateway = address(other.Gw)
		}
		wanted = append(wanted, want)
	}
	return wanted
}

// mostSpecificOther returns the most specific route to a network that is not this plugin's, or nil.
func mostSpecificOther(list []netlink.Route, to netip.Prefix) *netlink.Route {
	var other *netlink.Route
	for i := range list {
		d := prefix(list[i].Dst)
		if list[i].Protocol != protocol && d.Bits() <= to.Bits() && d.Contains(to.Addr()) &&
			(other == nil || d.Bits() > prefix(other.Dst).Bits()) {
			other = &list[i]
		}
	}
	return other
}

func (i nsInterface) applyRoutes(present map[Route]netlink.Route, wanted []Route) error {
	kept := map[netip.Prefix]bool{}
	for _, want := range wanted {
		kept[want.Destination] = true
		if _, ok := present[want]; ok {
			continue
		}
		route := &netlink.Route{
			LinkIndex: i.link.Attrs().Index, Dst: IPNet(want.Destination), MTU: want.MTU, Protocol: protocol,
		}
		if want.Gateway.IsValid() {
			route.Gw = want.Gateway.AsSlice()
		} else if want.Destination.Addr().Is4() {
			route.Scope = netlink.SCOPE_LINK
		}
		if want.Source.IsValid() {
			route.Src = net.IP(want.Source.AsSlice())
		}
		if err := i.handle.RouteReplace(route); err != nil {
			return fmt.Errorf("set route to %s: %w", want.Destination, err)
		}
	}
	for old, route := range present {
		if !kept[old.Destination] {
			if err := i.handle.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route to %s: %w", old.Destination, err)
			}
		}
	}
	return nil
}

// dump repeats a listing that the kernel interrupted because the table changed in the meantime.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for try := 0; ; try++ {
		items, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == 5 {
			return items, err
		}
	}
}
