package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// maxRows is the maximum number of rows of an edit, and maxNetworks the maximum number of networks of a row on each
// side.
const (
	maxRows     = 16
	maxNetworks = 4
)

// network returns the n-th network of the k-th row on a side (1 left, 2 right). The site's namespace accepts every
// address in it as a local one.
func network(side, k, n, family int) netip.Prefix {
	if family == 4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(side), byte(k*maxNetworks + n)}), 24)
	}
	// The byte must not be 0, because the netlink library takes an address that ends in 12 zero bytes for an IPv4
	// address.
	address := [16]byte{0: 0xfd, 1: byte(side), 7: byte(k*maxNetworks + n + 1)}
	return netip.PrefixFrom(netip.AddrFrom16(address), 64)
}

// hostIn returns the address in a network that sends and answers pings.
func hostIn(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	bytes[len(bytes)-1] = 10
	address, _ := netip.AddrFromSlice(bytes)
	return address
}

// side is one of the two ends of the tunnels.
type side struct {
	name, other string
	number      int            // a part of the addresses of the side
	external    map[int]string // the external address by family, 4 or 6
}

var sides = []side{
	{"left", "right", 1, map[int]string{4: "100.100.100.2", 6: "2001:db8:1::2"}},
	{"right", "left", 2, map[int]string{4: "200.200.200.2", 6: "2001:db8:2::2"}},
}

// natAddress is the address of the left side after NAT, as the right side sees it.
const natAddress = "192.0.2.1"

// The templates of the two sites and their routers. They are those of examples/two-sites/network, with both address
// families. A router has an interface for the port of the container, one for the site and one for the WAN. The
// namespace of a site accepts all addresses of its IPv4 /16 and of its IPv6 /32 as local ones.
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

// text replaces the placeholders in a template by the names and addresses of the side.
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
			// A batch cannot contain an IPv6 rule, because the option -6 applies to the whole command.
			if part.batch == router {
				_, err := command("", "ip", "-6", "-n", part.namespace, "rule", "add", "iif", "site", "lookup", "100")
				if err != nil {
					return err
				}
			}
			sysctl := append([]string{"netns", "exec", part.namespace, "sysctl", "-q"}, part.settings...)
			if _, err := command("", "ip", sysctl...); err != nil {
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

// setNAT enables or disables NAT on the left router for packets of its container. It uses iptables, because User-mode
// Linux supports NAT for iptables only. It disconnects the container from the router during the change: iptables
// enables connection tracking before it adds the rule. A packet that the router forwards in between is tracked as a
// flow without NAT, and later packets of this flow are not translated either.
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

// command runs a program and returns its stdout. The error contains its stderr.
func command(stdin, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s",
			program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
