package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// pair is a traffic selector pair of a row: a network of the left side and one of the right side. Each pair has its own
// Child SA.
type pair struct{ left, right netip.Prefix }

// pairs returns the pairs of the row, which is the i-th one of its edit. In transport mode the only pair consists of
// the external addresses.
func (r row) pairs(i int) (all []pair) {
	if r.child.mode == "transport" {
		host := func(s side) netip.Prefix {
			a := netip.MustParseAddr(s.external[r.outer])
			return netip.PrefixFrom(a, a.BitLen())
		}
		return []pair{{host(sides[0]), host(sides[1])}}
	}
	for _, family := range r.inner {
		for l := range r.networks[0] {
			for p := range r.networks[1] {
				all = append(all, pair{network(1, i, l, family), network(2, i, p, family)})
			}
		}
	}
	return all
}

// xfrmState has the states and policies in the kernel of one side.
type xfrmState struct {
	states   []netlink.XfrmState
	policies []netlink.XfrmPolicy
}

func (w *testbed) xfrm(s side) (k xfrmState, err error) {
	if k.states, err = w.handles[s.name].XfrmStateList(netlink.FAMILY_ALL); err != nil {
		return k, err
	}
	k.policies, err = w.handles[s.name].XfrmPolicyList(netlink.FAMILY_ALL)
	return k, err
}

// find returns the XFRM states that match the templates of the policies for packets between two networks in one
// direction.
func (k xfrmState) find(from, to netip.Prefix, direction netlink.Dir) (found []netlink.XfrmState) {
	for _, p := range k.policies {
		if p.Dir != direction || !same(p.Src, from) || !same(p.Dst, to) {
			continue
		}
		for _, t := range p.Tmpls {
			end := t.Dst
			if t.Mode == netlink.XFRM_MODE_TRANSPORT { // the state has the destination of the packets
				end = to.Addr().AsSlice()
			}
			for _, s := range k.states {
				if t.Reqid != 0 && s.Reqid == t.Reqid && s.Proto == t.Proto && s.Dst.Equal(end) {
					found = append(found, s)
				}
			}
		}
	}
	return found
}

func same(n *net.IPNet, p netip.Prefix) bool { return n != nil && n.String() == p.String() }

// wrongAssociations returns the faults of the associations for each row of an edit. Each pair needs an association in
// both directions at both ends, and all of its associations must have the protocol, the mode and the algorithms of the
// row.
func (w *testbed) wrongAssociations(e edit) (faults [][]string) {
	faults = make([][]string, len(e.rows))
	for _, s := range sides {
		k, err := w.xfrm(s)
		for i, r := range e.rows {
			if err != nil {
				faults[i] = append(faults[i], err.Error())
				continue
			}
			for _, p := range r.pairs(i) {
				own, other := p.left, p.right
				if s.name == "right" {
					own, other = other, own
				}
				for direction, states := range map[string][]netlink.XfrmState{
					"out": k.find(own, other, netlink.XFRM_DIR_OUT), "in": k.find(other, own, netlink.XFRM_DIR_IN)} {
					var have []string
					for _, state := range states {
						have = append(have, describe(state))
					}
					want := r.want()
					if len(have) == 0 || slices.ContainsFunc(have, func(s string) bool { return s != want }) {
						faults[i] = append(faults[i], fmt.Sprintf("%s, %s, %s to %s: the kernel has %q, want %q",
							s.name, direction, own, other, have, want))
					}
				}
			}
		}
	}
	return faults
}

// checkTraffic sends a ping over every pair of a row. It returns a fault for each ping without an answer, and for each
// association at both ends whose packet counter did not grow.
func (w *testbed) checkTraffic(r row, i int) (faults []string) {
	before, err := w.packetCounts(r, i)
	if err != nil {
		return []string{err.Error()}
	}
	pairs := r.pairs(i)
	for _, p := range pairs {
		namespace, from, to := "site-left", hostIn(p.left), hostIn(p.right)
		if r.child.mode == "transport" {
			namespace, from, to = "vpn-left", p.left.Addr(), p.right.Addr()
		}
		var err error
		for range 3 { // the first ping may be lost while the kernel resolves a neighbour
			w.pings++
			if err = ping(namespace, from, to, w.pings, 2*time.Second); err == nil {
				break
			}
		}
		if err != nil {
			faults = append(faults, err.Error())
		}
	}
	after, err := w.packetCounts(r, i)
	if err != nil {
		return append(faults, err.Error())
	}
	for place, packets := range after {
		if packets <= before[place] {
			faults = append(faults, fmt.Sprintf("%s: the associations counted no packet", place))
		}
	}
	return faults
}

// packetCounts returns the packet counters of a row's associations, by side, pair and direction.
func (w *testbed) packetCounts(r row, i int) (map[string]uint64, error) {
	counts := map[string]uint64{}
	for _, s := range sides {
		k, err := w.xfrm(s)
		if err != nil {
			return nil, err
		}
		for _, p := range r.pairs(i) {
			for _, way := range []struct {
				from, to netip.Prefix
				in, out  string
			}{{p.left, p.right, "right", "left"}, {p.right, p.left, "left", "right"}} {
				direction := netlink.XFRM_DIR_OUT
				if s.name == way.in {
					direction = netlink.XFRM_DIR_IN
				}
				var packets uint64
				for _, state := range k.find(way.from, way.to, direction) {
					packets += state.Statistics.Packets
				}
				counts[fmt.Sprintf("%s, %s to %s", s.name, way.from, way.to)] = packets
			}
		}
	}
	return counts, nil
}
