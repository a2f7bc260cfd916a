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

// born is the name that versions before 0.2.0 gave the host's side while it was still inside the namespace.
const born = "svc-outside"

// Host is the host's side of a container's veth.
type Host struct {
	Name   string
	MAC    net.HardwareAddr
	Up     bool
	Master int // index of the bridge that it is in; 0: none
}

// EnsureVeth makes the pair, or finds it. A name that another interface has on the host is ErrTaken, and then no pair was made.
func (n *Namespace) EnsureVeth(iface string, owner spec.Owner) error {
	if err := removeUnfinished(owner); err != nil {
		return err
	}
	held, err := Held(owner)
	if err != nil {
		return err
	}
	_, err = n.handle.LinkByName(iface)
	switch {
	case err == nil && held:
		return n.prepare()
	case err == nil && !n.unfinished(owner):
		return fmt.Errorf("make %s: the namespace has an interface of that name", iface)
	case err != nil && !notFound(err):
		return fmt.Errorf("look for %s: %w", iface, err)
	}
	if held { // its other end is in a namespace that another one replaced
		if err := RemoveHost(owner); err != nil {
			return err
		}
	}
	if err := n.prepare(); err != nil {
		return err
	}
	return n.makePair(iface, owner)
}

// unfinished removes a pair that a killed verb of a version before 0.2.0 left inside, and reports whether there was one. It has no
// alias if the kill came before that.
func (n *Namespace) unfinished(owner spec.Owner) bool {
	link, err := n.handle.LinkByName(born)
	if err != nil || link.Type() != "veth" {
		return false
	}
	alias := link.Attrs().Alias
	return (alias == owner.String() || alias == "") && n.removeBorn() == nil
}

// makePair makes the pair with each end where it belongs: moving a link to another namespace takes 25 to 80 ms, under a lock of the
// whole kernel. The host's side gets its owner tag and comes up in one message; until then it is identified by its link group.
func (n *Namespace) makePair(iface string, owner spec.Owner) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.Group = string(owner.Name), spec.UnfinishedGroup(owner.Network)
	attributes.HardwareAddr = hostMAC()
	pair := &netlink.Veth{LinkAttrs: attributes, PeerName: iface, PeerNamespace: netlink.NsFd(int(n.ns.Fd()))}
	if err := netlink.LinkAdd(pair); err != nil {
		if _, foreign := Held(owner); errors.Is(err, unix.EEXIST) && errors.Is(foreign, ErrTaken) {
			err = ErrTaken
		}
		return fmt.Errorf("make veth %s: %w", owner.Name, err)
	}
	link, err := netlink.LinkByName(string(owner.Name))
	if err == nil {
		err = withoutLinkLocal(link)
	}
	if err == nil {
		err = apply(string(owner.Name), hostSettings) // before the link is up
	}
	if err == nil {
		err = finish(link.Attrs().Index, owner)
	}
	if err != nil {
		_ = RemoveHost(owner)
		return fmt.Errorf("tag veth %s: %w", owner.Name, err)
	}
	return nil
}

// hostMAC is a random address for the host's side. A bridge without an address of its own takes the lowest of its ports, so ours is
// higher than that of any network card.
func hostMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // it never fails
	mac[0] = 0xfe
	return mac
}

// withoutLinkLocal makes the kernel give the host's side no IPv6 address, by which a tenant would reach the host's services.
func withoutLinkLocal(link netlink.Link) error {
	err := netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) { // a kernel without IPv6
		return fmt.Errorf("no IPv6 address: %w", err)
	}
	return nil
}

// finish tags the host's side, takes it out of the group and brings it up.
func finish(index int, owner spec.Owner) error {
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

func (n *Namespace) removeBorn() error {
	link, err := n.handle.LinkByName(born)
	if err != nil {
		return err
	}
	return n.handle.LinkDel(link)
}

// Join brings the host's side up and into the bridge. It leaves a bridge only if that is one that it was in for us.
func Join(owner spec.Owner, bridge string, before ...string) error {
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
					return fmt.Errorf("take %s out of bridge %s: %w", owner.Name, name, err)
				}
			}
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", owner.Name, err)
	}
	// The link is a tenant's: no router there may tell the host anything.
	return apply(string(owner.Name), hostSettings)
}

// FindBridge finds a Linux bridge.
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

// isUnfinished reports whether a link is the host's side of a pair that a killed process has not tagged.
func isUnfinished(link netlink.Link, owner spec.Owner) bool {
	a := link.Attrs()
	return a.Alias == "" && a.Group == spec.UnfinishedGroup(owner.Network) && link.Type() == "veth"
}

// removeUnfinished removes the host's side of a pair that a killed process has not tagged, and with it the other side.
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

// Held says whether the host's side exists, is complete and is ours: same network, same name; the container id does not matter.
// Another's link of that name is ErrTaken.
func Held(owner spec.Owner) (bool, error) {
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
		return false, fmt.Errorf("interface %s (alias %s): %w", owner.Name, spec.Quote(link.Attrs().Alias), ErrTaken)
	}
	return true, nil
}

// RemoveHost removes the veth of a container, if it is ours; its other end goes with it.
func RemoveHost(owner spec.Owner) error {
	if err := removeUnfinished(owner); err != nil {
		return err
	}
	if held, err := Held(owner); err != nil || !held {
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

// RemoveUnfinished removes a pair that never left the namespace.
func (n *Namespace) RemoveUnfinished(owner spec.Owner) {
	_ = n.unfinished(owner)
}

// ObserveHost looks at the host's side.
func ObserveHost(owner spec.Owner) (*Host, error) {
	held, err := Held(owner)
	if err != nil || !held {
		return nil, err
	}
	link, err := netlink.LinkByName(string(owner.Name))
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", owner.Name, err)
	}
	a := link.Attrs()
	return &Host{Name: a.Name, MAC: a.HardwareAddr, Up: a.Flags&net.FlagUp != 0, Master: a.MasterIndex}, nil
}
