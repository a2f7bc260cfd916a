package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Pair is one pair of subnets of a connection: what Libreswan calls a conn, with one Child SA.
type Pair struct {
	Conn  string // its name in the daemon
	Local netip.Prefix
	Peer  netip.Prefix
	Host  bool // transport mode between the two addresses themselves: no subnets
}

var (
	plainAlias = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_-]{0,55}$`)
	takenAlias = lazyregexp.New(`^h[0-9a-f]{32}$|-[0-9]{1,2}-[0-9]{1,2}$`)
)

// Alias is the connection's name in the daemon: its id where that can be a name there, else a hash of it. An id that
// looks like such a hash, or like the name of a pair, is hashed too, so that no id takes another's name.
func (c *Connection) Alias() string {
	if plainAlias.MatchString(c.ID) && !takenAlias.MatchString(c.ID) {
		return c.ID
	}
	sum := sha256.Sum256([]byte(c.ID))
	return "h" + hex.EncodeToString(sum[:16])
}

// Networks are the local and the peer's subnet of a conn that the daemon has.
type Networks struct{ Local, Peer netip.Prefix }

// number gives the subnets of each side their numbers in the names of the pairs. One that the daemon has keeps its own, so
// that a subnet that goes, or comes before it, costs it nothing; a new one gets the lowest that is free.
func (c *Connection) number(loaded map[string]Networks) {
	local, peer := map[netip.Prefix]int{}, map[netip.Prefix]int{}
	alias := c.Alias()
	for conn, networks := range loaded {
		var i, j int
		if rest, ok := strings.CutPrefix(conn, alias+"-"); !ok || !scan(rest, &i, &j) || conn != pairName(alias, i, j) {
			continue // another's
		}
		local[networks.Local], peer[networks.Peer] = i, j
	}
	c.localNumbers, c.peerNumbers = numbers(c.LocalCIDRs, local), numbers(c.PeerCIDRs, peer)
}

func scan(text string, i, j *int) bool {
	n, err := fmt.Sscanf(text, "%d-%d", i, j)
	return n == 2 && err == nil
}

func pairName(alias string, i, j int) string { return fmt.Sprintf("%s-%d-%d", alias, i, j) }

func numbers(cidrs []netip.Prefix, known map[netip.Prefix]int) []int {
	assigned, taken := make([]int, len(cidrs)), map[int]bool{}
	for i, cidr := range cidrs {
		assigned[i] = -1
		if n, ok := known[cidr]; ok && n >= 0 && n < maxCIDRs && !taken[n] {
			assigned[i], taken[n] = n, true
		}
	}
	next := 0
	for i := range assigned {
		if assigned[i] >= 0 {
			continue
		}
		for taken[next] {
			next++
		}
		assigned[i], taken[next] = next, true
	}
	return assigned
}

// Pairs lists the connection's pairs: every local with every peer subnet of the same family, since an SA takes no mix. Their
// names are those of Resolve; before it they count from 0.
func (c *Connection) Pairs() []Pair {
	if c.IPsec.Transport {
		return []Pair{{Conn: pairName(c.Alias(), 0, 0), Local: host(c.LocalAddress), Peer: host(c.PeerAddress), Host: true}}
	}
	alias, localNumbers, peerNumbers := c.Alias(), c.localNumbers, c.peerNumbers
	if localNumbers == nil {
		localNumbers, peerNumbers = numbers(c.LocalCIDRs, nil), numbers(c.PeerCIDRs, nil)
	}
	var pairs []Pair
	for i, local := range c.LocalCIDRs {
		for j, peer := range c.PeerCIDRs {
			if local.Addr().Is4() == peer.Addr().Is4() {
				pairs = append(pairs, Pair{Conn: pairName(alias, localNumbers[i], peerNumbers[j]), Local: local, Peer: peer})
			}
		}
	}
	return pairs
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// checkSubnets wants a counterpart for every subnet, and none in transport mode, which joins two hosts.
func (c *Connection) checkSubnets(key string) error {
	if c.IPsec.Transport {
		for _, side := range []struct {
			key   string
			cidrs []netip.Prefix
		}{{".localCidrs", c.LocalCIDRs}, {".peerCidrs", c.PeerCIDRs}} {
			for _, cidr := range side.cidrs {
				if !cidr.IsSingleIP() {
					return &spec.Fault{Key: key + side.key, Value: cidr.String(), Allowed: "none with encapsulationMode transport, which joins the two addresses themselves"}
				}
			}
		}
		return nil
	}
	if len(c.LocalCIDRs) == 0 {
		return &spec.Fault{Key: key + ".localCidrs", Value: "", Allowed: "at least one network"}
	}
	if len(c.PeerCIDRs) == 0 {
		return &spec.Fault{Key: key + ".peerCidrs", Value: "", Allowed: "at least one network"}
	}
	local, peer := families(c.LocalCIDRs), families(c.PeerCIDRs)
	if local != peer {
		return &spec.Fault{Key: key + ".peerCidrs", Value: c.PeerCIDRs[0].String(), Allowed: "networks of the same families as localCidrs"}
	}
	if n := len(c.Pairs()); n > maxPairs {
		return &spec.Fault{Key: key + ".peerCidrs", Value: fmt.Sprint(n, " pairs"), Allowed: fmt.Sprint("at most ", maxPairs, " pairs of subnets")}
	}
	return nil
}

func families(cidrs []netip.Prefix) (seen [2]bool) {
	for _, cidr := range cidrs {
		if cidr.Addr().Is4() {
			seen[0] = true
		} else {
			seen[1] = true
		}
	}
	return seen
}
