package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The block policies of the guard drop packets in the kernel's IPsec policy database. If the kernel has no nftables,
// they are the whole guard. Otherwise they cover only the entries that nftables cannot distinguish.
//
// The policies have a mark with a mask that all ordinary packets match. Without it, the daemon's policy for the same
// networks would replace the block policy.
const (
	lowestPriority = 1<<31 - 2 // a higher number, and so a lower priority, than all policies of the daemon
	blockMask      = 1 << 31
)

// blocks returns the block policies of a guard of this kind: selectors and priorities.
func (g Guard) blocks(kind string) map[selector]int {
	wanted := map[selector]int{}
	if kind == GuardPolicies {
		for _, s := range g.unprotected() {
			wanted[s] = lowestPriority
		}
	}
	for _, e := range g.Entries {
		if kind == GuardPolicies || kind == GuardTable && e.Indistinct {
			wanted[e.selector] = e.priority() + 1
		}
	}
	return wanted
}

// HasPolicies reports whether a guard of this kind has XFRM policies.
func (g Guard) HasPolicies(kind string) bool { return len(g.blocks(kind)) > 0 }

// unprotected returns the selectors whose packets must not leave in clear. A peer's network that overlaps no local
// network is blocked for every source. One that overlaps a local network (for example 0.0.0.0/0) is blocked only for
// the local networks as source, because otherwise these could not be reached.
func (g Guard) unprotected() []selector {
	var list []selector
	for _, peer := range g.Peers {
		if !slices.ContainsFunc(g.Local, peer.Overlaps) {
			list = append(list, selector{anyAddress(peer.Addr()), peer})
			continue
		}
		for _, local := range g.Local {
			if local.Addr().Is4() == peer.Addr().Is4() {
				list = append(list, selector{local, peer})
			}
		}
	}
	return list
}

// anyAddress returns the network of all addresses of a's family.
func anyAddress(a netip.Addr) netip.Prefix {
	all, _ := a.Prefix(0)
	return all
}

// isBlockPolicy reports whether a policy is a block policy of the guard.
func isBlockPolicy(p policy) bool {
	return p.action == netlink.XFRM_POLICY_BLOCK && p.mark != nil && p.mark.Mask == blockMask
}

// blockPolicies are the block policies of the guard in a namespace.
type blockPolicies struct{ xfrm XFRM }

// present returns the block policies that are in place.
func (b blockPolicies) present() (map[selector]policy, error) {
	list, err := b.xfrm.policies()
	if err != nil {
		return nil, err
	}
	present := map[selector]policy{}
	for _, p := range list {
		if p.direction == netlink.XFRM_DIR_OUT && isBlockPolicy(p) {
			present[p.selector] = p
		}
	}
	return present, nil
}

// set makes the block policies match the wanted ones. It changes only what differs.
func (b blockPolicies) set(wanted map[selector]int) error {
	present, err := b.present()
	if err != nil {
		return err
	}
	for s, priority := range wanted {
		if p, ok := present[s]; ok && p.priority == priority {
			continue
		}
		p := policy{selector: s, direction: netlink.XFRM_DIR_OUT, action: netlink.XFRM_POLICY_BLOCK, priority: priority,
			mark: &netlink.XfrmMark{Mask: blockMask}}
		// Replaces a policy of another priority atomically.
		if err := b.xfrm.handle.XfrmPolicyUpdate(p.message()); err != nil {
			return fmt.Errorf("block packets from %s to %s: %w", s.source, s.destination, err)
		}
	}
	for s, p := range present {
		if _, ok := wanted[s]; ok {
			continue
		}
		if err := b.xfrm.handle.XfrmPolicyDel(p.message()); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unblock packets from %s to %s: %w", s.source, s.destination, err)
		}
	}
	return nil
}

// complete reports whether the wanted block policies are in place.
func (b blockPolicies) complete(wanted map[selector]int) (bool, error) {
	if len(wanted) == 0 {
		return true, nil
	}
	present, err := b.present()
	if err != nil {
		return false, err
	}
	for s, priority := range wanted {
		if p, ok := present[s]; !ok || p.priority != priority {
			return false, nil
		}
	}
	return true, nil
}
