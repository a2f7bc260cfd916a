package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
)

// Guard keeps packets to the peers' networks from leaving in clear, whatever the state of the daemon, its policies and
// its tunnels. For each packet it checks whether the packet's route has an IPsec transformation. Flushing the IPsec
// policies does not affect it; Libreswan 5 flushes them at start and stop.
type Guard struct {
	External []netip.Addr
	Local    []netip.Prefix // reached in clear if they are more specific than a peer's network
	Peers    []netip.Prefix
	Entries  []entry // entries whose packets also match the policy of another connection, in order (compareEntries)
	IKEv1    bool    // a connection uses IKEv1
}

const guardTable = "svc-ipsec"

func newGuard(c *config.Configuration) Guard {
	g := Guard{External: c.ExternalIPs}
	for _, connection := range c.Wanted() {
		for _, pair := range connection.Pairs() {
			g.Peers = append(g.Peers, pair.Peer)
			if !pair.Host {
				g.Local = append(g.Local, pair.Local)
			}
		}
		g.IKEv1 = g.IKEv1 || connection.IKE.Version == "v1"
	}
	// The peers' networks of refused connections are guarded too, except those inside a local network of another
	// connection.
	for i := range c.Connections {
		for _, network := range c.Connections[i].BlockedNetworks() {
			if !slices.ContainsFunc(g.Local, func(local netip.Prefix) bool {
				return local.Bits() <= network.Bits() && local.Contains(network.Addr())
			}) {
				g.Peers = append(g.Peers, network)
			}
		}
	}
	g.Entries = ambiguousEntries(c)
	for _, list := range []*[]netip.Prefix{&g.Local, &g.Peers} {
		slices.SortFunc(*list, comparePrefix)
		*list = slices.Compact(*list)
	}
	return g
}

// Rules returns the guard as input for nft: one transaction that replaces the existing table.
func (g Guard) Rules() []byte {
	var b bytes.Buffer
	line := func(format string, values ...any) { fmt.Fprintf(&b, format+"\n", values...) }
	line("table inet %s", guardTable)
	line("delete table inet %s", guardTable)
	line("table inet %s {", guardTable)
	line("  chain input {")
	line("    type filter hook input priority filter; policy accept;")
	if !g.IKEv1 {
		// The version is the 18th byte of the IKE header. On port 4500 four zero bytes precede the header (RFC 3948).
		line("    udp dport 500 @th,200,8 0x10 counter drop")
		line("    udp dport 4500 @th,64,32 0 @th,232,8 0x10 counter drop")
	}
	line("  }")
	line("  chain peers {")
	g.writeEntryRules(line)
	g.writeNetworkRules(line)
	line("  }")
	line("  chain output {")
	line("    type filter hook output priority filter; policy accept;")
	line("    oifname \"lo\" accept")
	line("    icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept")
	for _, ip := range g.External {
		line("    %s saddr %s meta l4proto { esp, ah } accept", family(ip), ip)
		line("    %s saddr %s udp sport { 500, 4500 } accept", family(ip), ip)
	}
	line("    jump peers")
	line("  }")
	line("  chain forward {")
	line("    type filter hook forward priority filter; policy accept;")
	line("    jump peers")
	line("  }")
	line("}")
	return b.Bytes()
}

// Union returns the guard for the time of a change from other to g. It covers the networks of the peers of both, and it
// accepts the IKE and ESP packets of both.
func (g Guard) Union(other Guard) Guard {
	return Guard{
		External: append(slices.Clone(g.External), other.External...),
		Local:    g.Local,
		Peers:    append(slices.Clone(g.Peers), other.Peers...),
		Entries:  mergeEntries(g.Entries, other.Entries),
		IKEv1:    g.IKEv1 || other.IKEv1,
	}
}

// writeEntryRules writes the rules for packets that a tunnel is about to carry and that match several entries. Only the
// tunnel of the first entry may carry them. The tunnel is identified by its gateway.
func (g Guard) writeEntryRules(line func(string, ...any)) {
	for i, e := range g.Entries {
		match := fmt.Sprintf("%[1]s saddr %[2]s %[1]s daddr %[3]s", family(e.source.Addr()), e.source, e.destination)
		switch {
		case e.Transport: // a block policy excludes tunnels
			line("    %s rt ipsec exists accept", match)
		case e.Gateway.IsValid():
			line("    %s ipsec out %s daddr %s accept", match, family(e.Gateway), e.Gateway)
		}
		if i+1 == len(g.Entries) || g.Entries[i+1].selector != e.selector {
			line("    %s rt ipsec exists counter drop", match)
		}
	}
}

// writeNetworkRules writes one rule for each network, the most specific network first. So a local network inside a
// peer's network (for example 0.0.0.0/0) is reachable, and a peer's network inside a local one is guarded. A network
// that is both local and a peer's is guarded.
func (g Guard) writeNetworkRules(line func(string, ...any)) {
	type networkRule struct {
		network netip.Prefix
		peer    bool
	}
	var all []networkRule
	for _, network := range g.Peers {
		all = append(all, networkRule{network, true})
	}
	for _, network := range g.Local {
		all = append(all, networkRule{network, false})
	}
	slices.SortStableFunc(all, func(a, b networkRule) int { return comparePrefix(a.network, b.network) })
	for _, d := range all {
		if d.peer {
			line("    %s daddr %s rt ipsec missing counter drop", family(d.network.Addr()), d.network)
		} else {
			line("    %s daddr %s accept", family(d.network.Addr()), d.network)
		}
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip6"
}
