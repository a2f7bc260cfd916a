package network

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// entry is an entry of the security policy database (RFC 4301, section 4.4.1): a pair of networks, and the gateway of
// the tunnel that carries their packets.
//
// The first entry that matches a packet decides. Libreswan gives its policies the same order, but installs a policy
// only while the tunnel is up. While a tunnel is down, its packets match the policy of a less specific entry, which may
// belong to another peer. Guard.Entries has the entries for which this can happen.
type entry struct {
	selector
	Gateway netip.Addr // invalid if the connection is refused, so that no tunnel may carry the packets
	// Indistinct means that nftables, which matches only the gateway of a packet's tunnel, cannot distinguish the
	// entry's own tunnel from that of a less specific entry: both have the same gateway, or the entry's own SA is in
	// transport mode.
	Indistinct bool

	Transport bool

	connection string
}

// compareEntries sorts in the order of Libreswan (calculate_sa_prio in 4.10, spd_priority in 5.2): the longest local
// prefix first, then the longest prefix of the peer. Two different entries with the same prefix lengths do not overlap.
func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(b.source.Bits(), a.source.Bits()),
		cmp.Compare(b.destination.Bits(), a.destination.Bits()),
		a.source.Addr().Compare(b.source.Addr()), a.destination.Addr().Compare(b.destination.Addr()),
		a.Gateway.Compare(b.Gateway))
}

// priority returns the priority that Libreswan gives the policy of an entry. A lower number precedes a higher one. The
// number is always odd, so the next number is between this entry and the next one.
func (s selector) priority() int {
	const static, anyPorts, anyProtocol, template = 1 << 20, 2 << 18, 1 << 17, 1
	return static | anyPorts | anyProtocol | (128-s.source.Bits())<<9 | (128-s.destination.Bits())<<1 | template
}

// ambiguousEntries returns, in order, the entries that decide about packets which also match a less specific entry of
// another connection.
func ambiguousEntries(c *config.Configuration) []entry {
	var entries []entry
	for _, connection := range c.Wanted() {
		for _, pair := range connection.Pairs() {
			entries = append(entries, entry{selector: selector{pair.Local, pair.Peer}, Gateway: connection.PeerAddress,
				connection: connection.Place(), Transport: pair.Host})
		}
	}
	entries = append(entries, refusedEntries(c, entries)...)
	at := map[netip.Prefix][]int{}
	for i, e := range entries {
		at[e.destination] = append(at[e.destination], i)
	}
	found := map[int]bool{}
	for i := range entries {
		// Overlapping prefixes are nested, so the loop over all shorter prefixes finds each pair of overlapping
		// entries.
		for bits := range entries[i].destination.Bits() + 1 {
			wider, _ := entries[i].destination.Addr().Prefix(bits)
			for _, j := range at[wider] {
				if first, ok := precedes(entries, i, j); ok {
					found[first] = true
				}
			}
		}
	}
	var list []entry
	for i := range found {
		list = append(list, entries[i])
	}
	slices.SortFunc(list, compareEntries)
	return list
}

// precedes returns which of two entries decides about packets that match both. ok is false if this makes no difference,
// because both entries belong to one connection or to refused connections, or do not overlap.
func precedes(entries []entry, i, j int) (first int, ok bool) {
	if entries[i].selector == entries[j].selector || entries[i].connection == entries[j].connection ||
		!entries[i].overlaps(entries[j].selector) {
		return 0, false
	}
	if !entries[i].Gateway.IsValid() && !entries[j].Gateway.IsValid() {
		return 0, false
	}
	if compareEntries(entries[i], entries[j]) > 0 {
		i, j = j, i
	}
	if entries[i].Transport || entries[i].Gateway == entries[j].Gateway {
		entries[i].Indistinct = true
	}
	return i, true
}

// refusedEntries returns the entries of refused connections. If the local networks of such a connection are unknown,
// those of all wanted entries that overlap its peer's networks are used.
func refusedEntries(c *config.Configuration, wanted []entry) []entry {
	var list []entry
	for i := range c.Connections {
		connection := &c.Connections[i]
		for _, peer := range connection.BlockedNetworks() {
			locals := connection.LocalCIDRs
			if len(locals) == 0 {
				for _, e := range wanted {
					if e.destination.Overlaps(peer) {
						locals = append(locals, e.source)
					}
				}
			}
			for _, local := range locals {
				if local.Addr().Is4() == peer.Addr().Is4() {
					list = append(list, entry{selector: selector{local, peer}, connection: connection.Place()})
				}
			}
		}
	}
	return slices.DeleteFunc(list, func(e entry) bool {
		return slices.ContainsFunc(wanted, func(w entry) bool { return w.selector == e.selector })
	})
}

// mergeEntries returns the entries of two guards in order, without duplicates.
func mergeEntries(a, b []entry) []entry {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, compareEntries)
	var merged []entry
	for _, e := range all {
		last := len(merged) - 1
		if last < 0 || compareEntries(merged[last], e) != 0 {
			merged = append(merged, e)
		} else if e.Indistinct {
			merged[last].Indistinct = true
		}
	}
	return merged
}
