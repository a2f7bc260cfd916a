// Package network gives a container its network: the veth pair, addresses, routes, the gateway's neighbour entry, sysctls,
// and the guard that lets nothing leave in clear.
//
// Draft says what a container should have (pure); the rest brings a namespace to it, again and again with the same end,
// and touches only what differs. The two sides of the veth are made where they belong. The host's side gets its owner tag and comes up in one message; until
// then a link group marks it as this container's (spec.UnfinishedGroup). Nothing without the owner tag or that mark is
// changed or removed. In a namespace and on an interface of a runtime's (chained), only the peers' routes, the redirect
// and reverse path settings of that interface, and the guard are ours.
//
// It starts no daemon and knows no secret.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	// ErrHostNamespace says that the namespace is the one this program runs in.
	ErrHostNamespace = errors.New("it is the network namespace of this program")
	// ErrTaken says that the host has an interface of the container's name that is not ours.
	ErrTaken = errors.New("an interface of that name exists and is not this container's")
	// ErrNoBridge says that the bridge to join is not there, or is no bridge.
	ErrNoBridge = errors.New("no Linux bridge of that name")
)

// Namespace is an open network namespace.
type Namespace struct {
	handle *netlink.Handle
	ns     ns.NetNS
}

// Check returns an error if Open would: if path is no network namespace, or the one of this program.
func Check(path string) error {
	namespace, err := open(path)
	if err == nil {
		err = namespace.Close()
	}
	return err
}

// open opens the network namespace at path. The one of this program is refused.
func open(path string) (ns.NetNS, error) {
	namespace, err := ns.GetNS(path)
	if err != nil {
		return nil, fmt.Errorf("open namespace: %w", err)
	}
	own, err := isOwn(namespace)
	if err == nil && own {
		err = ErrHostNamespace
	}
	if err != nil {
		_ = namespace.Close()
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	return namespace, nil
}

// Open opens the network namespace at path. The host's own is refused before anything is touched.
func Open(path string) (*Namespace, error) {
	namespace, err := open(path)
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(namespace.Fd()), unix.NETLINK_ROUTE, unix.NETLINK_XFRM)
	if err != nil {
		_ = namespace.Close()
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	return &Namespace{handle, namespace}, nil
}

func isOwn(namespace ns.NetNS) (bool, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return false, err
	}
	defer func() { _ = own.Close() }()
	return own.Equal(netns.NsHandle(namespace.Fd())), nil
}

// Close lets the namespace go.
func (n *Namespace) Close() {
	n.handle.Close()
	_ = n.ns.Close()
}

// do runs f on a thread inside the namespace: for files below /proc/sys/net and for programs that are started.
func (n *Namespace) do(f func() error) error {
	return n.ns.Do(func(ns.NetNS) error { return f() })
}

func notFound(err error) bool {
	return errors.As(err, &netlink.LinkNotFoundError{})
}

// IPNet is a prefix in the older type.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if !ok {
		return netip.Prefix{}
	}
	if size == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, bits)
}

func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
