package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// XFRM has the kernel's IPsec policies and SAs in a namespace.
type XFRM struct {
	handle *netlink.Handle
	do     inside
}

func (x XFRM) policies() (list []policy, err error) {
	err = x.do(func() error {
		list, err = listPolicies()
		return err
	})
	return list, err
}

// Tunnels returns the pairs of networks that have an outbound policy and SAs in both directions in the kernel. It is
// used if the daemon cannot be queried.
func (x XFRM) Tunnels() (map[config.Networks]Tunnel, error) {
	policies, err := x.policies()
	if err != nil {
		return nil, err
	}
	states, err := dump(func() ([]netlink.XfrmState, error) { return x.handle.XfrmStateList(netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list SAs: %w", err)
	}
	return tunnels(policies, states), nil
}

// Flush removes all policies and SAs that a killed daemon left in the kernel, and the block policies of the guard.
func (x XFRM) Flush() error {
	if err := x.handle.XfrmPolicyFlush(); err != nil {
		return fmt.Errorf("flush policies: %w", err)
	}
	if err := x.handle.XfrmStateFlush(0); err != nil {
		return fmt.Errorf("flush states: %w", err)
	}
	return nil
}

// RemoveTunnels removes the policies and SAs that a killed daemon left in the kernel. The block policies of the guard
// stay.
func (x XFRM) RemoveTunnels() error {
	policies, err := x.policies()
	if err != nil {
		return err
	}
	return removeTunnels(x.handle, policies, func(p policy) bool { return !isBlockPolicy(p) })
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
