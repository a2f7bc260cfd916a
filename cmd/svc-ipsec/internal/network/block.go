package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The guard's policies block packets in the kernel's policy database. They are the whole guard where there is no nftables. With nftables
// they guard only those entries that it cannot distinguish.
//
// The mark (a mask that ordinary packets match) distinguishes them from others: the daemon's policy for the same networks would
// replace one without it.
const (
	lastPriority = 1<<31 - 2 // after all policies of the daemon
	blockMask    = 1 << 31
)

// blocks returns the policies of the guard of this kind: what each matches, and its priority.
func (g Guard) blocks(kind string) map[selector]int {
	wanted := map[selector]int{}
	if kind == GuardPolicies {
		for _, s := range g.unprotected() {
			wanted[s] = lastPriority
		}
	}
	for _, e := range g.Entries {
		if kind == GuardPolicies || kind == GuardTable && e.Indistinct {
			wanted[e.selector] = e.priority() + 1
		}
	}
	return wanted
}

// unprotected lists what must not leave in clear. A peer's network that contains none of ours is blocked from everywhere; one
// that does (0.0.0.0/0, for example) only from our networks, because those could not be reached otherwise.
func (g Guard) unprotected() []selector {
	var list []selector
	for _, peer := range g.Peers {
		if !slices.ContainsFunc(g.Local, peer.Overlaps) {
			list = append(list, selector{everything(peer.Addr()), peer})
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

// everything is the network of all addresses of the same family as a.
func everything(a netip.Addr) netip.Prefix {
	all, _ := a.Prefix(0)
	return all
}

// isBlock reports whether a policy is one of the guard's.
func isBlock(p policy) bool {
	return p.action == netlink.XFRM_POLICY_BLOCK && p.mark != nil && p.mark.Mask == blockMask
}

// blocks lists the policies of the guard that are in place.
func (n *Namespace) blocks() (map[selector]policy, error) {
	list, err := n.policies()
	if err != nil {
		return nil, err
	}
	present := map[selector]policy{}
	for _, p := range list {
		if p.direction == netlink.XFRM_DIR_OUT && isBlock(p) {
			present[p.selector] = p
		}
	}
	return present, nil
}

// setBlocks makes the policies of the guard the wanted ones. What is right already is not touched.
func (n *Namespace) setBlocks(wanted map[selector]int) error {
	present, err := n.blocks()
	if err != nil {
		return err
	}
	for s, priority := range wanted {
		if p, ok := present[s]; ok && p.priority == priority {
			continue
		}
		p := policy{selector: s, direction: netlink.XFRM_DIR_OUT, action: netlink.XFRM_POLICY_BLOCK, priority: priority,
			mark: &netlink.XfrmMark{Mask: blockMask}}
		if err := n.handle.XfrmPolicyUpdate(p.message()); err != nil { // replaces one of another priority, without a gap
			return fmt.Errorf("block packets from %s to %s: %w", s.source, s.destination, err)
		}
	}
	for s, p := range present {
		if _, ok := wanted[s]; ok {
			continue
		}
		if err := n.handle.XfrmPolicyDel(p.message()); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unblock packets from %s to %s: %w", s.source, s.destination, err)
		}
	}
	return nil
}

// hasBlocks reports whether the policies of the guard are in place.
func (n *Namespace) hasBlocks(wanted map[selector]int) (bool, error) {
	if len(wanted) == 0 {
		return true, nil
	}
	present, err := n.blocks()
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
