package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// Pair is one traffic selector pair of a connection. Libreswan has one conn with one Child SA for it.
type Pair struct {
	Conn  string // the name of the conn in the daemon
	Local netip.Prefix
	Peer  netip.Prefix
	Host  bool // in transport mode: the pair consists of the two addresses, and the conn has no subnets
}

var (
	plainAlias    = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_-]{0,55}$`)
	reservedAlias = lazyregexp.New(`^h[0-9a-f]{32}$|-[0-9]{1,2}-[0-9]{1,2}$`)
)

// Alias returns the connection's name in the daemon. It is the id if that is a valid name in the daemon, and otherwise
// a hash of the id. An id that looks like such a hash, or like the name of a pair, is hashed too, so that two
// connections never have the same name.
func (c *Connection) Alias() string {
	if plainAlias.MatchString(c.ID) && !reservedAlias.MatchString(c.ID) {
		return c.ID
	}
	sum := sha256.Sum256([]byte(c.ID))
	return "h" + hex.EncodeToString(sum[:16])
}

// Networks are the local subnet and the peer subnet of a conn that the daemon has loaded.
type Networks struct{ Local, Peer netip.Prefix }

// assignNumbers assigns the numbers that the names of the pairs contain to the subnets of each side. A subnet that the
// daemon has loaded keeps its number, so that adding or removing another subnet does not rename and interrupt its
// conns. A new subnet gets the lowest free number.
func (c *Connection) assignNumbers(loaded map[string]Networks) {
	local, peer := map[netip.Prefix]int{}, map[netip.Prefix]int{}
	alias := c.Alias()
	for conn, networks := range loaded {
		var i, j int
		if rest, ok := strings.CutPrefix(conn, alias+"-"); !ok || !scan(rest, &i, &j) || conn != pairName(alias, i, j) {
			continue // a conn of another connection
		}
		local[networks.Local], peer[networks.Peer] = i, j
	}
	c.localNumbers, c.peerNumbers = numbers(c.LocalCIDRs, local), numbers(c.PeerCIDRs, peer)
}

func scan(text string, i, j *int) bool {
	n, err := fmt.Sscanf(text, "%d-%d", i, j)
	return n == 2 && err == nil
}

// pairName returns the name of the conn for the local subnet with number i and the peer subnet with number j.
func pairName(alias string, i, j int) string { return fmt.Sprintf("%s-%d-%d", alias, i, j) }

// numbers returns a number for each of cidrs: the known one if it is valid and free, and the lowest free one otherwise.
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

// Pairs lists the connection's pairs: each local subnet with each peer subnet of the same address family, because an SA
// cannot have both families. Resolve assigns the numbers in the names of the pairs. Before Resolve, Pairs numbers the
// subnets from 0.
func (c *Connection) Pairs() []Pair {
	if c.IPsec.Transport {
		local, peer := host(c.LocalAddress), host(c.PeerAddress)
		return []Pair{{Conn: pairName(c.Alias(), 0, 0), Local: local, Peer: peer, Host: true}}
	}
	alias, localNumbers, peerNumbers := c.Alias(), c.localNumbers, c.peerNumbers
	if localNumbers == nil {
		localNumbers, peerNumbers = numbers(c.LocalCIDRs, nil), numbers(c.PeerCIDRs, nil)
	}
	var pairs []Pair
	for i, local := range c.LocalCIDRs {
		for j, peer := range c.PeerCIDRs {
			if local.Addr().Is4() == peer.Addr().Is4() {
				conn := pairName(alias, localNumbers[i], peerNumbers[j])
				pairs = append(pairs, Pair{Conn: conn, Local: local, Peer: peer})
			}
		}
	}
	return pairs
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
