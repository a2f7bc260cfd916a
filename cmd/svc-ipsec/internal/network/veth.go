package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// oldHostName is the name that versions before 0.2.0 gave the host's end while it was still in the container's
// namespace.
const oldHostName = "svc-outside"

// HostLink is the host's end of a container's veth.
type HostLink struct {
	Name   string
	MAC    net.HardwareAddr
	Up     bool
	Master int // index of its bridge; 0 if it has none
}

// Veth is the veth pair of a container. The other end is in the namespace.
type Veth struct {
	namespace *Namespace
	owner     spec.Owner
}

// Ensure creates the pair unless it exists. If another interface on the host has the name, it creates nothing
// and returns ErrNameTaken.
func (v Veth) Ensure(iface string) error {
	if err := removeUnfinished(v.owner); err != nil {
		return err
	}
	exists, err := HasHostLink(v.owner)
	if err != nil {
		return err
	}
	_, err = v.namespace.handle.LinkByName(iface)
	switch {
	case err == nil && exists:
		return v.namespace.Sysctls().applyDefaults()
	case err == nil && !v.RemoveOld():
		return fmt.Errorf("make %s: the namespace has an interface of that name", iface)
	case err != nil && !notFound(err):
		return fmt.Errorf("look for %s: %w", iface, err)
	}
	if exists { // its other end is in an earlier namespace that was replaced
		if err := RemoveHostLink(v.owner); err != nil {
			return err
		}
	}
	if err := v.namespace.Sysctls().applyDefaults(); err != nil {
		return err
	}
	return v.create(iface)
}

// RemoveOld removes a pair that a killed verb of a version before 0.2.0 left in the namespace, and reports whether
// there was one. The pair has no alias if the verb was killed before it set the alias.
func (v Veth) RemoveOld() bool {
	handle := v.namespace.handle
	link, err := handle.LinkByName(oldHostName)
	if err != nil || link.Type() != "veth" {
		return false
	}
	alias := link.Attrs().Alias
	return (alias == v.owner.String() || alias == "") && handle.LinkDel(link) == nil
}

// create creates the pair with each end in its own namespace, because moving a link to another namespace takes 25
// to 80 ms under a lock of the whole kernel. One message tags the host's end and brings it up. Until then its link
// group identifies it.
func (v Veth) create(iface string) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.Group = string(v.owner.Name), spec.UnfinishedGroup(v.owner.Network)
	attributes.HardwareAddr = hostMAC()
	pair := &netlink.Veth{LinkAttrs: attributes, PeerName: iface, PeerNamespace: netlink.NsFd(int(v.namespace.ns.Fd()))}
	if err := netlink.LinkAdd(pair); err != nil {
		if _, foreign := HasHostLink(v.owner); errors.Is(err, unix.EEXIST) && errors.Is(foreign, ErrNameTaken) {
			err = ErrNameTaken
		}
		return fmt.Errorf("make veth %s: %w", v.owner.Name, err)
	}
	link, err := netlink.LinkByName(string(v.owner.Name))
	if err == nil {
		err = disableLinkLocal(link)
	}
	if err == nil {
		err = writeSettings(string(v.owner.Name), hostSettings) // must precede the link being up
	}
	if err == nil {
		err = tagAndBringUp(link.Attrs().Index, v.owner)
	}
	if err != nil {
		_ = RemoveHostLink(v.owner)
		return fmt.Errorf("tag veth %s: %w", v.owner.Name, err)
	}
	return nil
}

// hostMAC returns a random address for the host's end. A bridge without a configured address takes the lowest address
// of its ports, so this address is higher than those of network cards.
func hostMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = 0xfe
	return mac
}

// disableLinkLocal makes the kernel assign no IPv6 address to the host's end. A tenant could reach services of the host
// by it.
func disableLinkLocal(link netlink.Link) error {
	err := netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) { // EAFNOSUPPORT: the kernel has no IPv6
		return fmt.Errorf("disable IPv6 link-local address: %w", err)
	}
	return nil
}

// tagAndBringUp sets the owner tag of the host's end, removes it from the link group and brings it up, in one message.
func tagAndBringUp(index int, owner spec.Owner) error {
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	message.Flags, message.Change = unix.IFF_UP, unix.IFF_UP
	request.AddData(message)
	request.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(owner.String())))
	request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(0)))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// AttachHostLink brings the host's end up and makes it a port of the bridge. If bridge is "", it detaches the host's
// end, but only from the bridges in before.
func AttachHostLink(owner spec.Owner, bridge string, before ...string) error {
	link, err := netlink.LinkByName(string(owner.Name))
	if err != nil {
		return fmt.Errorf("look for %s: %w", owner.Name, err)
	}
	var master netlink.Link
	if bridge != "" {
		if master, err = FindBridge(bridge); err != nil {
			return err
		}
		if link.Attrs().MasterIndex != master.Attrs().Index {
			// A bridge takes the smallest MTU of its ports.
			if mtu := master.Attrs().MTU; link.Attrs().MTU != mtu {
				if err := netlink.LinkSetMTU(link, mtu); err != nil {
					return fmt.Errorf("set the MTU of %s to that of bridge %s: %w", owner.Name, bridge, err)
				}
			}
			if err := netlink.LinkSetMaster(link, master); err != nil {
				return fmt.Errorf("join %s to bridge %s: %w", owner.Name, bridge, err)
			}
		}
	} else {
		for _, name := range before {
			if old, err := FindBridge(name); err == nil && link.Attrs().MasterIndex == old.Attrs().Index {
				if err := netlink.LinkSetNoMaster(link); err != nil {
					return fmt.Errorf("remove %s from bridge %s: %w", owner.Name, name, err)
				}
			}
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", owner.Name, err)
	}
	// The other end of the link belongs to a tenant, so the host must not accept redirects or router advertisements
	// from it.
	return writeSettings(string(owner.Name), hostSettings)
}

// FindBridge returns a Linux bridge.
func FindBridge(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if notFound(err) || err == nil && link.Type() != "bridge" {
		return nil, fmt.Errorf("port.bridge %s: %w", name, ErrNoBridge)
	}
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", name, err)
	}
	return link, nil
}

// isUnfinished reports whether a link is the host's end of a pair that a killed process did not tag.
func isUnfinished(link netlink.Link, owner spec.Owner) bool {
	a := link.Attrs()
	return a.Alias == "" && a.Group == spec.UnfinishedGroup(owner.Network) && link.Type() == "veth"
}

// removeUnfinished removes the host's end of a pair that a killed process did not tag. The other end is removed with
// it.
func removeUnfinished(owner spec.Owner) error {
	link, err := netlink.LinkByName(string(owner.Name))
	if err == nil && isUnfinished(link, owner) {
		err = netlink.LinkDel(link)
	}
	if err != nil && !notFound(err) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", owner.Name, err)
	}
	return nil
}

// HasHostLink reports whether the host's end exists, is complete, and has the same network and name in its owner tag.
// The container ID is not compared. If another interface has the name, it returns ErrNameTaken.
func HasHostLink(owner spec.Owner) (bool, error) {
	link, err := netlink.LinkByName(string(owner.Name))
	if notFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", owner.Name, err)
	}
	if isUnfinished(link, owner) {
		return false, nil
	}
	tag, ok := spec.ParseOwner(link.Attrs().Alias)
	if !ok || tag.Network != owner.Network || tag.Name != owner.Name {
		return false, fmt.Errorf("interface %s (alias %s): %w", owner.Name, spec.Quote(link.Attrs().Alias),
			ErrNameTaken)
	}
	return true, nil
}

// RemoveHostLink removes the veth of a container if it has the owner tag. Its other end is removed with it.
func RemoveHostLink(owner spec.Owner) error {
	if err := removeUnfinished(owner); err != nil {
		return err
	}
	if exists, err := HasHostLink(owner); err != nil || !exists {
		return err
	}
	link, err := netlink.LinkByName(string(owner.Name))
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !notFound(err) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", owner.Name, err)
	}
	return nil
}

// FindHostLink returns the host's end, or nil if it does not exist.
func FindHostLink(owner spec.Owner) (*HostLink, error) {
	exists, err := HasHostLink(owner)
	if err != nil || !exists {
		return nil, err
	}
	link, err := netlink.LinkByName(string(owner.Name))
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", owner.Name, err)
	}
	a := link.Attrs()
	return &HostLink{Name: a.Name, MAC: a.HardwareAddr, Up: a.Flags&net.FlagUp != 0, Master: a.MasterIndex}, nil
}
