package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// maxRows is how many rows an edit may have, and maxNetworks how many networks each of them on a side.
const (
	maxRows     = 16
	maxNetworks = 4
)

// network is one of the k-th row's networks of a side (1 left, 2 right). The site has every address in it.
func network(side, k, n, family int) netip.Prefix {
	if family == 4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(side), byte(k*maxNetworks + n)}), 24)
	}
	// Not 0: an address that ends in 12 zero bytes is one of IPv4 to the netlink library.
	address := [16]byte{0: 0xfd, 1: byte(side), 7: byte(k*maxNetworks + n + 1)}
	return netip.PrefixFrom(netip.AddrFrom16(address), 64)
}

// inside is the address in a network that pings and is pinged.
func inside(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	bytes[len(bytes)-1] = 10
	address, _ := netip.AddrFromSlice(bytes)
	return address
}

// side is one of the two ends: what it is called, and what its addresses are made of.
type side struct {
	name, other string
	number      int
	external    map[int]string // by family
}

var sides = []side{
	{"left", "right", 1, map[int]string{4: "100.100.100.2", 6: "2001:db8:1::2"}},
	{"right", "left", 2, map[int]string{4: "200.200.200.2", 6: "2001:db8:2::2"}},
}

// natted is what the right one sees of the left one's address through NAT.
const natted = "192.0.2.1"

// The two sites and their routers, as in examples/two-sites/network, with both families: what a router has is a port
// towards the container, the site, and the wan. A site has its whole /16, or /16 of IPv6, at once.
const topology = `netns add site-@
netns add router-@
link add br-@ type bridge
link set br-@ up
link add port netns router-@ address ca:fe:00:00:00:0# type veth peer name rt-@
link set rt-@ master br-@ up
link add site netns router-@ type veth peer name eth0 netns site-@
`

const router = `link set lo up
address add 169.254.#.1/30 dev port
address add fd0#:169::1/126 dev port nodad
address add 172.16.#.1/30 dev site
address add fd0#:172::1/126 dev site nodad
address add 192.0.2.#/30 dev wan
address add fd0f::#/126 dev wan nodad
link set port up
link set site up
link set wan up
route add 10.#.0.0/16 via 172.16.#.2
route add fd0#::/32 via fd0#:172::2
route add &4 via 169.254.#.2
route add &6 via fd0#:169::2
route add %4 via 192.0.2.~
route add %6 via fd0f::~
rule add iif site lookup 100
route add default via 169.254.#.2 table 100
route add ::/0 via fd0#:169::2 table 100
`

const site = `link set lo up
address add 172.16.#.2/30 dev eth0
address add fd0#:172::2/126 dev eth0 nodad
link set eth0 up
route add default via 172.16.#.1
route add ::/0 via fd0#:172::1
route add local 10.#.0.0/16 dev lo
route add local fd0#::/32 dev lo
`

// text puts a side's addresses into a template.
func (s side) text(template string) string {
	peer := sides[2-s.number]
	return strings.NewReplacer("@", s.name, "#", fmt.Sprint(s.number), "~", fmt.Sprint(peer.number),
		"&4", s.external[4], "&6", s.external[6], "%4", peer.external[4], "%6", peer.external[6]).Replace(template)
}

func networkUp() error {
	wan := "link add wan netns router-left type veth peer name wan netns router-right\n"
	if _, err := command(sides[0].text(topology)+sides[1].text(topology)+wan, "ip", "-batch", "-"); err != nil {
		return err
	}
	for _, s := range sides {
		for _, part := range []struct {
			namespace, batch string
			settings         []string
		}{
			{"router-" + s.name, router, []string{"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"}},
			{"site-" + s.name, site, []string{"net.ipv4.ip_nonlocal_bind=1", "net.ipv6.ip_nonlocal_bind=1"}},
		} {
			if _, err := command(s.text(part.batch), "ip", "-n", part.namespace, "-batch", "-"); err != nil {
				return err
			}
			// What a rule of IPv6 is, a batch cannot tell.
			if part.batch == router {
				if _, err := command("", "ip", "-6", "-n", part.namespace, "rule", "add", "iif", "site", "lookup", "100"); err != nil {
					return err
				}
			}
			if _, err := command("", "ip", append([]string{"netns", "exec", part.namespace, "sysctl", "-q"}, part.settings...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

func networkDown() {
	_, _ = command(`link delete br-left
link delete br-right
netns delete site-left
netns delete site-right
netns delete router-left
netns delete router-right
netns delete vpn-left
netns delete vpn-right
`, "ip", "-force", "-batch", "-")
}

// setNAT adds NAT for packets from the container to the left router, or removes it. User-mode Linux has NAT for iptables
// only. The container is cut off meanwhile: iptables enables connection tracking before it adds the rule, and a packet that
// the router forwards in between is tracked as a flow without NAT, whose later packets are not translated either.
func setNAT(on bool) error {
	do := map[bool]string{true: "--append", false: "--delete"}[on]
	for _, line := range [][]string{
		{"ip", "link", "set", "rt-left", "nomaster"},
		{"ip", "netns", "exec", "router-left", "iptables-legacy", "--table", "nat", do, "POSTROUTING",
			"--out-interface", "wan", "--source", sides[0].external[4], "--jump", "MASQUERADE"},
		{"ip", "link", "set", "rt-left", "master", "br-left"},
	} {
		if _, err := command("", line[0], line[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// command runs a program to its end.
func command(stdin, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
