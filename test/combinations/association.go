package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// pair is one local and one peer network of a row's, seen from the left: what has a Child SA of its own.
type pair struct{ left, right netip.Prefix }

// pairs lists them. Transport mode joins the external addresses themselves.
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

// kernel is what an end has installed.
type kernel struct {
	states   []netlink.XfrmState
	policies []netlink.XfrmPolicy
}

func (w *world) look(s side) (k kernel, err error) {
	if k.states, err = w.handles[s.name].XfrmStateList(netlink.FAMILY_ALL); err != nil {
		return k, err
	}
	k.policies, err = w.handles[s.name].XfrmPolicyList(netlink.FAMILY_ALL)
	return k, err
}

// of finds the associations that a policy for packets from one network to another in one direction asks for.
func (k kernel) of(from, to netip.Prefix, direction netlink.Dir) (found []netlink.XfrmState) {
	for _, p := range k.policies {
		if p.Dir != direction || !same(p.Src, from) || !same(p.Dst, to) {
			continue
		}
		for _, t := range p.Tmpls {
			end := t.Dst
			if t.Mode == netlink.XFRM_MODE_TRANSPORT { // of the packets themselves
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

// installed says of every row of an edit what its associations lack: each pair needs one that is as the row wants in both
// directions at both ends, and none that is otherwise.
func (w *world) installed(e edit) (faults [][]string) {
	faults = make([][]string, len(e.rows))
	for _, s := range sides {
		k, err := w.look(s)
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
					"out": k.of(own, other, netlink.XFRM_DIR_OUT), "in": k.of(other, own, netlink.XFRM_DIR_IN)} {
					var have []string
					for _, state := range states {
						have = append(have, shown(state))
					}
					if want := r.want(); len(have) == 0 || slices.ContainsFunc(have, func(s string) bool { return s != want }) {
						faults[i] = append(faults[i], fmt.Sprintf("%s, %s, %s to %s: the kernel has %q, want %q", s.name, direction, own, other, have, want))
					}
				}
			}
		}
	}
	return faults
}

// crosses pings over every pair of a row's, and wants the packets to be counted by its associations at both ends.
func (w *world) crosses(r row, i int) (faults []string) {
	before, err := w.counted(r, i)
	if err != nil {
		return []string{err.Error()}
	}
	pairs := r.pairs(i)
	for _, p := range pairs {
		namespace, from, to := "site-left", inside(p.left), inside(p.right)
		if r.child.mode == "transport" {
			namespace, from, to = "vpn-left", p.left.Addr(), p.right.Addr()
		}
		var err error
		for range 3 { // the first one may ask for a neighbour
			w.pings++
			if err = ping(namespace, from, to, w.pings, 2*time.Second); err == nil {
				break
			}
		}
		if err != nil {
			faults = append(faults, err.Error())
		}
	}
	after, err := w.counted(r, i)
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

// counted are the packets of a row's associations, by end, pair and direction.
func (w *world) counted(r row, i int) (map[string]uint64, error) {
	counts := map[string]uint64{}
	for _, s := range sides {
		k, err := w.look(s)
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
				for _, state := range k.of(way.from, way.to, direction) {
					packets += state.Statistics.Packets
				}
				counts[fmt.Sprintf("%s, %s to %s", s.name, way.from, way.to)] = packets
			}
		}
	}
	return counts, nil
}
