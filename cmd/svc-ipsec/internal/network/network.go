// Package network configures the network of a container: the veth pair, addresses, routes, the gateway's neighbour
// entry, sysctls, and the guard that lets no packet to a peer leave in clear.
//
// NewPlan computes what a container should have and has no side effects. The other functions make a namespace match the
// plan. They are idempotent and change only what differs. Each end of the veth pair is created in its own namespace.
// One message sets the owner tag of the host's end and brings it up; until then its link group marks it as this
// container's (spec.UnfinishedGroup). Links without the owner tag or this group are never changed or removed. In the
// namespace and on the interface of a runtime (chained), the package changes only the routes to the peers, the redirect
// and reverse path settings of that interface, and the guard.
//
// The package starts no daemon and handles no secrets.
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

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

var (
	// ErrHostNamespace means that the namespace is the one in which this program runs.
	ErrHostNamespace = errors.New("it is the network namespace of this program")
	// ErrNameTaken means that the host has an interface of the container's name that belongs to something else.
	ErrNameTaken = errors.New("an interface of that name exists and is not this container's")
	// ErrNoBridge means that the bridge does not exist, or that the link of that name is not a bridge.
	ErrNoBridge = errors.New("no Linux bridge of that name")
)

// Namespace is an open network namespace.
type Namespace struct {
	handle *netlink.Handle
	ns     ns.NetNS
}

// Check returns an error if path is not a network namespace, or is the one of this program. Open would return the same
// error.
func Check(path string) error {
	namespace, err := open(path)
	if err == nil {
		err = namespace.Close()
	}
	return err
}

// open opens the network namespace at path. It refuses the one of this program.
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

// Open opens the network namespace at path. It refuses the host's own namespace before it changes anything.
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

// Close closes the file descriptors of the namespace.
func (n *Namespace) Close() {
	n.handle.Close()
	_ = n.ns.Close()
}

// do runs f on a thread inside the namespace. It is needed for files below /proc/sys/net and for starting programs.
func (n *Namespace) do(f func() error) error {
	return n.ns.Do(func(ns.NetNS) error { return f() })
}

// inside runs a function on a thread inside a namespace (Namespace.do).
type inside func(func() error) error

// Veth returns the veth pair of a container whose other end is in the namespace.
func (n *Namespace) Veth(owner spec.Owner) Veth { return Veth{namespace: n, owner: owner} }

// Sysctls returns the settings of the namespace and its interfaces.
func (n *Namespace) Sysctls() Sysctls { return Sysctls{n.do} }

// XFRM returns the kernel's IPsec policies and SAs in the namespace.
func (n *Namespace) XFRM() XFRM { return XFRM{handle: n.handle, do: n.do} }

// Guard returns the guard that is installed in the namespace.
func (n *Namespace) Guard() InstalledGuard {
	return InstalledGuard{blocks: blockPolicies{n.XFRM()}, do: n.do}
}

func notFound(err error) bool {
	return errors.As(err, &netlink.LinkNotFoundError{})
}

// IPNet converts a prefix to the type of package net.
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
