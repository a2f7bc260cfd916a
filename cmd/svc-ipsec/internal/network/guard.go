package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/internal/patience"
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
		for _, network := range c.Connections[i].Closed() {
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

// Union returns a guard that drops everything that at least one of two guards drops.
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

// Kinds of guard.
const (
	GuardTable    = "nftables"
	GuardPolicies = "policies" // used if the kernel has no nftables
	GuardNone     = "none"
)

// SetGuard installs the guard. It returns the kind of the guard, and the reason if it is not nftables or is incomplete.
func (n *Namespace) SetGuard(ctx context.Context, nft string, g Guard) (kind, reason string) {
	err := n.nft(ctx, nft, g.Rules())
	if err == nil {
		if err := n.setBlocks(g.blocks(GuardTable)); err != nil {
			return GuardTable, err.Error()
		}
		return GuardTable, ""
	}
	if blocked := n.setBlocks(g.blocks(GuardPolicies)); blocked != nil {
		return GuardNone, err.Error() + "; " + blocked.Error()
	}
	return GuardPolicies, err.Error()
}

// RemoveGuard removes the guard, of whichever kind. An interrupted ADD may not have recorded the kind, so known may be
// wrong or empty. An error of nft is returned only if the table exists or known is GuardTable.
func (n *Namespace) RemoveGuard(ctx context.Context, nft, known string) error {
	if nft != "" {
		set, err := n.hasTable(guardTable)
		if err == nil && set {
			err = n.nft(ctx, nft, fmt.Appendf(nil, "delete table inet %s\n", guardTable))
		}
		if err != nil && (set || known == GuardTable) {
			return err
		}
	}
	return n.setBlocks(nil)
}

// GuardState is the result of CheckGuard.
type GuardState int

const (
	GuardMissing GuardState = iota // no guard is in place
	GuardChanged                   // a part of the guard is missing or was changed
	GuardComplete
)

// CheckGuard compares what is in place with a guard of this kind. digest is the result of RulesDigest after the guard
// was installed; if it is empty, the rules are not compared.
func (n *Namespace) CheckGuard(kind string, g Guard, digest string) (GuardState, error) {
	switch kind {
	case GuardTable:
		set, err := n.hasTable(guardTable)
		if err != nil || !set {
			return GuardMissing, err
		}
		if digest != "" {
			now, err := n.RulesDigest()
			if err != nil {
				return GuardMissing, err
			}
			if now != digest {
				return GuardChanged, nil
			}
		}
	case GuardPolicies:
	default:
		return GuardMissing, nil
	}
	complete, err := n.hasBlocks(g.blocks(kind))
	if err != nil {
		return GuardMissing, err
	}
	if !complete {
		return GuardChanged, nil
	}
	return GuardComplete, nil
}

// RulesDigest returns a digest of the rules in the guard's table, without their counters.
func (n *Namespace) RulesDigest() (string, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
	request.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(guardTable)))
	var rules [][]byte
	err := n.do(func() (err error) {
		rules, err = dump(func() ([][]byte, error) { return request.Execute(unix.NETLINK_NETFILTER, 0) })
		return err
	})
	if err != nil {
		return "", fmt.Errorf("list rules of nftables table %s: %w", guardTable, err)
	}
	hash := sha256.New()
	for _, rule := range rules {
		if err := hashRule(hash, rule[nl.SizeofNfgenmsg:]); err != nil {
			return "", fmt.Errorf("read rules of nftables table %s: %w", guardTable, err)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// hashRule hashes the chain and the expressions of a rule.
func hashRule(hash io.Writer, rule []byte) error {
	attributes, err := nl.ParseRouteAttr(rule)
	if err != nil {
		return err
	}
	for _, attribute := range attributes {
		switch attribute.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.NFTA_RULE_CHAIN:
			fmt.Fprintf(hash, "%q", attribute.Value)
		case unix.NFTA_RULE_EXPRESSIONS:
			expressions, err := nl.ParseRouteAttr(attribute.Value)
			if err != nil {
				return err
			}
			for _, expression := range expressions {
				name, err := nl.ParseRouteAttr(expression.Value)
				if err != nil {
					return err
				}
				if len(name) > 0 && string(name[0].Value) != "counter\x00" { // the values of counters change
					fmt.Fprintf(hash, "%q", expression.Value)
				}
			}
		}
	}
	return nil
}

// hasTable reports whether nftables has a table of this name in the family inet.
func (n *Namespace) hasTable(name string) (bool, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
	request.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(name)))
	err := n.do(func() error {
		_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for nftables table %s: %w", name, err)
	}
	return true, nil
}

// nft runs nft with these rules in the namespace. nft is trusted, starts no programs and prints little. So it needs
// none of what package libreswan does to run a program: another user id, a process group and an output limit.
func (n *Namespace) nft(ctx context.Context, program string, rules []byte) error {
	ctx, cancel := patience.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-f", "-")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(rules)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// The program is started on the thread that has entered the namespace, and the child inherits it.
	if err := n.do(cmd.Run); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("run %s: %w: %s", program, err, first)
	}
	return nil
}
