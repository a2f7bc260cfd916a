package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The guard without nftables: policies of the last priority that block what no tunnel's policy takes. The mark (a mask
// that ordinary packets match) keeps each apart from a policy of the daemon's with the same selector, which would replace
// it, and tells ours from others.
const (
	blockPriority = 1<<31 - 2
	blockMask     = 1 << 31
)

// selector is what a block policy matches: Source is valid only where a local network lies in the peer's.
type selector struct{ source, destination netip.Prefix }

// selectors lists what to block. A peer's network that holds none of ours is blocked from everywhere; one that does
// (0.0.0.0/0, say) only from our networks, or those could not be reached either.
func (g Guard) selectors() map[selector]bool {
	wanted := map[selector]bool{}
	for _, peer := range g.Peers {
		var within []netip.Prefix
		for _, local := range g.Local {
			if local.Overlaps(peer) {
				within = append(within, local)
			}
		}
		if len(within) == 0 {
			wanted[selector{destination: peer}] = true
			continue
		}
		for _, local := range g.Local {
			if local.Addr().Is4() == peer.Addr().Is4() {
				wanted[selector{local, peer}] = true
			}
		}
	}
	return wanted
}

// isBlock reports whether a policy is one of the guard's.
func isBlock(p netlink.XfrmPolicy) bool {
	return p.Action == netlink.XFRM_POLICY_BLOCK && p.Mark != nil && p.Mark.Mask == blockMask
}

func (n *Namespace) blocks() (map[selector]netlink.XfrmPolicy, error) {
	list, err := dump(func() ([]netlink.XfrmPolicy, error) { return n.handle.XfrmPolicyList(netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	present := map[selector]netlink.XfrmPolicy{}
	for _, p := range list {
		if !isBlock(p) {
			continue
		}
		key := selector{prefix(p.Src), prefix(p.Dst)}
		if key.source.Bits() == 0 {
			key.source = netip.Prefix{}
		}
		present[key] = p
	}
	return present, nil
}

// setBlocks makes the block policies the wanted ones.
func (n *Namespace) setBlocks(g Guard) error {
	present, err := n.blocks()
	if err != nil {
		return err
	}
	wanted := g.selectors()
	for s := range wanted {
		if _, ok := present[s]; ok {
			continue
		}
		policy := &netlink.XfrmPolicy{Dst: IPNet(s.destination), Dir: netlink.XFRM_DIR_OUT, Priority: blockPriority,
			Action: netlink.XFRM_POLICY_BLOCK, Mark: &netlink.XfrmMark{Mask: blockMask}}
		source := s.source
		if !source.IsValid() {
			source = netip.PrefixFrom(map[bool]netip.Addr{true: netip.IPv4Unspecified(), false: netip.IPv6Unspecified()}[s.destination.Addr().Is4()], 0)
		}
		policy.Src = IPNet(source)
		if err := n.handle.XfrmPolicyAdd(policy); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("block clear packets for %s: %w", s.destination, err)
		}
	}
	for s, policy := range present {
		if !wanted[s] {
			if err := n.handle.XfrmPolicyDel(&policy); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unblock packets for %s: %w", s.destination, err)
			}
		}
	}
	return nil
}
