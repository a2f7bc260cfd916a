package network

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// born is the name of the host's side while it is still inside.
const born = "svc-outside"

// Host is the host's side of a container's veth.
type Host struct {
	Name   string
	MAC    net.HardwareAddr
	Up     bool
	Master int
	Bridge string // the name of its master
}

// EnsureVeth makes the pair, or finds it. A name that another interface has on the host is ErrTaken, and then nothing of
// the pair has left the namespace.
func (n *Namespace) EnsureVeth(iface string, owner spec.Owner) error {
	name := string(owner.Name)
	held, err := Held(owner)
	if err != nil {
		return err
	}
	_, err = n.handle.LinkByName(iface)
	switch {
	case err == nil && held:
		return nil
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
	index, err := n.makePair(iface, owner)
	if err != nil {
		return err
	}
	if err := n.moveOut(index, name); err != nil {
		_ = n.removeBorn()
		if errors.Is(err, unix.EEXIST) {
			err = ErrTaken
		}
		return fmt.Errorf("move %s to the host: %w", name, err)
	}
	return nil
}

// unfinished removes a pair of this container's that never got out, and says whether there was one. It has no alias yet if
// a kill came before that.
func (n *Namespace) unfinished(owner spec.Owner) bool {
	link, err := n.handle.LinkByName(born)
	if err != nil || link.Type() != "veth" {
		return false
	}
	alias := link.Attrs().Alias
	return (alias == owner.String() || alias == "") && n.removeBorn() == nil
}

// makePair returns the index of the host's side.
func (n *Namespace) makePair(iface string, owner spec.Owner) (int, error) {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = born
	if err := n.handle.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: iface}); err != nil {
		return 0, fmt.Errorf("make veth %s: %w", iface, err)
	}
	link, err := n.handle.LinkByName(born)
	if err == nil {
		// An alias in the message that makes a link is silently ignored by the kernel.
		err = n.handle.LinkSetAlias(link, owner.String())
	}
	if err != nil {
		_ = n.removeBorn()
		return 0, fmt.Errorf("tag veth %s: %w", iface, err)
	}
	return link.Attrs().Index, nil
}

func (n *Namespace) removeBorn() error {
	link, err := n.handle.LinkByName(born)
	if err != nil {
		return err
	}
	return n.handle.LinkDel(link)
}

// moveOut moves the host's side, names it and brings it up in one message: whoever waits for the name gets a whole link.
func (n *Namespace) moveOut(index int, name string) error {
	hostNamespace, err := netns.Get()
	if err != nil {
		return err
	}
	defer func() { _ = hostNamespace.Close() }()
	return n.do(func() error {
		request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
		message := nl.NewIfInfomsg(unix.AF_UNSPEC)
		message.Index = int32(index)
		message.Flags, message.Change = unix.IFF_UP, unix.IFF_UP
		request.AddData(message)
		request.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(hostNamespace))))
		request.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
		_, err := request.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}

// Join brings the host's side up and into the bridge. It leaves a bridge only if that is the one it was in for us.
func Join(owner spec.Owner, bridge, before string) error {
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
			if err := netlink.LinkSetMaster(link, master); err != nil {
				return fmt.Errorf("join %s to bridge %s: %w", owner.Name, bridge, err)
			}
		}
	} else if before != "" {
		if old, err := FindBridge(before); err == nil && link.Attrs().MasterIndex == old.Attrs().Index {
			if err := netlink.LinkSetNoMaster(link); err != nil {
				return fmt.Errorf("take %s out of bridge %s: %w", owner.Name, before, err)
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

// Held says whether the host's side exists and is ours: same network, same name; the container id does not matter.
// Another's link of that name is ErrTaken.
func Held(owner spec.Owner) (bool, error) {
	link, err := netlink.LinkByName(string(owner.Name))
	if notFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", owner.Name, err)
	}
	tag, ok := spec.ParseOwner(link.Attrs().Alias)
	if !ok || tag.Network != owner.Network || tag.Name != owner.Name {
		return false, fmt.Errorf("interface %s (alias %s): %w", owner.Name, spec.Quote(link.Attrs().Alias), ErrTaken)
	}
	return true, nil
}

// RemoveHost removes the veth of a container, if it is ours; its other end goes with it.
func RemoveHost(owner spec.Owner) error {
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
	host := &Host{Name: a.Name, MAC: a.HardwareAddr, Up: a.Flags&net.FlagUp != 0, Master: a.MasterIndex}
	if a.MasterIndex != 0 {
		if master, err := netlink.LinkByIndex(a.MasterIndex); err == nil {
			host.Bridge = master.Attrs().Name
		}
	}
	return host, nil
}
