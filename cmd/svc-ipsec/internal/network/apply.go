package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protocol marks our routes in the kernel's table, so that a change or a removal finds them and no others.
const protocol = netlink.RouteProtocol(83)

// Apply brings the interface to the plan. What is right already is not touched, so a change of one connection does not
// disturb another's packets.
func (n *Namespace) Apply(p *Plan) error {
	link, err := n.handle.LinkByName(p.Interface)
	if err != nil {
		return fmt.Errorf("look for %s: %w", p.Interface, err)
	}
	if err := n.settle(p.Interface, !p.Chained); err != nil {
		return err
	}
	if !p.Chained {
		if err := n.applyLink(link, p); err != nil {
			return err
		}
	}
	list, err := n.routes()
	if err != nil {
		return err
	}
	return n.applyRoutes(link, ownRoutes(list, link), p.needed(list, link))
}

func (n *Namespace) applyLink(link netlink.Link, p *Plan) error {
	if p.MAC != nil && link.Attrs().HardwareAddr.String() != p.MAC.String() {
		if err := n.handle.LinkSetHardwareAddr(link, p.MAC); err != nil {
			return fmt.Errorf("set MAC %s of %s: %w", p.MAC, p.Interface, err)
		}
	}
	if lo, err := n.handle.LinkByName("lo"); err == nil {
		if err := n.handle.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring lo up: %w", err)
		}
	}
	if err := n.applyAddresses(link, p.Addresses); err != nil {
		return err
	}
	if err := n.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", p.Interface, err)
	}
	return n.applyNeighbours(link, p.Neighbours)
}

func (n *Namespace) addresses(link netlink.Link) (map[netip.Prefix]netlink.Addr, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return n.handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	present := map[netip.Prefix]netlink.Addr{}
	for _, a := range list {
		present[prefix(a.IPNet)] = a
	}
	return present, nil
}

func (n *Namespace) applyAddresses(link netlink.Link, wanted []netip.Prefix) error {
	present, err := n.addresses(link)
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
			// The address is routed to us, nobody on the wire has it too; the daemon must be able to bind to it at once.
			a.Flags = unix.IFA_F_NODAD
			// The kernel takes no IPv6 address a second time, whatever the prefix length.
			for old, same := range present {
				if old.Addr() != want.Addr() {
					continue
				}
				if err := n.handle.AddrDel(link, &same); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
					return fmt.Errorf("remove %s from %s: %w", old, link.Attrs().Name, err)
				}
				delete(present, old)
			}
		}
		if err := n.handle.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add %s to %s: %w", want, link.Attrs().Name, err)
		}
	}
	for old, a := range present {
		if old.Addr().IsLinkLocalUnicast() && !old.Addr().Is4() {
			continue // the kernel's own
		}
		if err := n.handle.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from %s: %w", old, link.Attrs().Name, err)
		}
	}
	return nil
}

func (n *Namespace) applyNeighbours(link netlink.Link, wanted []Neighbour) error {
	list, err := dump(func() ([]netlink.Neigh, error) { return n.handle.NeighList(link.Attrs().Index, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list neighbours of %s: %w", link.Attrs().Name, err)
	}
	present := map[netip.Addr]netlink.Neigh{}
	for _, entry := range list {
		if entry.State&netlink.NUD_PERMANENT != 0 {
			present[address(entry.IP)] = entry
		}
	}
	for _, want := range wanted {
		old, ok := present[want.Address]
		delete(present, want.Address)
		if ok && old.HardwareAddr.String() == want.MAC.String() {
			continue
		}
		entry := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: familyOf(want.Address), State: netlink.NUD_PERMANENT,
			IP: want.Address.AsSlice(), HardwareAddr: want.MAC}
		if err := n.handle.NeighSet(entry); err != nil {
			return fmt.Errorf("set neighbour %s: %w", want.Address, err)
		}
	}
	for old, entry := range present {
		if err := n.handle.NeighDel(&entry); err != nil && !errors.Is(err, unix.ENOENT) {
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

// routes lists those of the main table, of every interface.
func (n *Namespace) routes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := dump(func() ([]netlink.Route, error) { return n.handle.RouteListFiltered(family, &netlink.Route{}, 0) })
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// ownRoutes picks the routes of ours on the interface.
func ownRoutes(list []netlink.Route, link netlink.Link) map[Route]netlink.Route {
	present := map[Route]netlink.Route{}
	for _, route := range list {
		if route.Protocol == protocol && route.LinkIndex == link.Attrs().Index {
			present[Route{Destination: prefix(route.Dst), Gateway: address(route.Gw), Source: address(route.Src), MTU: route.MTU}] = route
		}
	}
	return present
}

// needed lists the plan's routes that are to be ours. One that the runtime has is its own, which we would replace for good:
// policies and guard do without ours, only its MTU is lost. Where the runtime named no gateway, ours goes the way that the
// runtime's own routes lead: on-link it could hide the way to the daemon's peers.
func (p *Plan) needed(list []netlink.Route, link netlink.Link) []Route {
	if !p.Chained {
		return p.Routes
	}
	var wanted []Route
	for _, want := range p.Routes {
		switch way := leading(list, want.Destination); {
		case way == nil:
		case prefix(way.Dst) == want.Destination:
			continue
		case !want.Gateway.IsValid() && way.LinkIndex == link.Attrs().Index:
			want.Gateway = address(way.Gw)
		}
		wanted = append(wanted, want)
	}
	return wanted
}

// leading finds the most specific route of another's to a network, nil if there is none.
func leading(list []netlink.Route, to netip.Prefix) *netlink.Route {
	var way *netlink.Route
	for i := range list {
		d := prefix(list[i].Dst)
		if list[i].Protocol != protocol && d.Bits() <= to.Bits() && d.Contains(to.Addr()) && (way == nil || d.Bits() > prefix(way.Dst).Bits()) {
			way = &list[i]
		}
	}
	return way
}

func (n *Namespace) applyRoutes(link netlink.Link, present map[Route]netlink.Route, wanted []Route) error {
	kept := map[netip.Prefix]bool{}
	for _, want := range wanted {
		kept[want.Destination] = true
		if _, ok := present[want]; ok {
			continue
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: IPNet(want.Destination), MTU: want.MTU, Protocol: protocol}
		if want.Gateway.IsValid() {
			route.Gw = want.Gateway.AsSlice()
		} else if want.Destination.Addr().Is4() {
			route.Scope = netlink.SCOPE_LINK
		}
		if want.Source.IsValid() {
			route.Src = net.IP(want.Source.AsSlice())
		}
		if err := n.handle.RouteReplace(route); err != nil {
			return fmt.Errorf("set route to %s: %w", want.Destination, err)
		}
	}
	for old, route := range present {
		if !kept[old.Destination] {
			if err := n.handle.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route to %s: %w", old.Destination, err)
			}
		}
	}
	return nil
}

// dump repeats a listing that the kernel interrupted because its table changed meanwhile.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for try := 0; ; try++ {
		items, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == 5 {
			return items, err
		}
	}
}
