package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// chained is a container in a namespace of a runtime's that has default routes of its own; prevResult names their gateways,
// or does not.
func chained(t *testing.T, name string, gateways bool) *subject {
	t.Helper()
	c := newContainer(t, name)
	c.port, c.iface = "", "eth0"
	sh(t, "bash", "-ec", `ip link add host-side type veth peer name eth0 netns `+name+`; ip link set host-side up
		ip="ip -n `+name+`"; $ip link set lo up; $ip link set eth0 up
		$ip addr add 192.0.2.2/24 dev eth0; $ip route add default via 192.0.2.1
		$ip addr add 2001:db8::2/64 dev eth0 nodad; $ip route add default via 2001:db8::1`)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "host-side").Run() })
	four, six := "", ""
	if gateways {
		four, six = `"gateway":"192.0.2.1",`, `"gateway":"2001:db8::1",`
	}
	c.previous = fmt.Sprintf(`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":%q}],
		"ips":[{"address":"192.0.2.2/24",%s"interface":0},{"address":"2001:db8::2/64",%s"interface":0}]}`, c.namespace, four, six)
	return c
}

// both is a configuration with a connection of each family to these networks.
func both(four, six string) string {
	return fmt.Sprintf(`{"connections":[
		{"id":"four","peerAddress":"198.51.100.9","localCidrs":["192.0.2.2/32"],"peerCidrs":[%s],"psk":"k"},
		{"id":"six","peerAddress":"2001:db8:9::9","localCidrs":["2001:db8::2/128"],"peerCidrs":[%s],"psk":"k"}]}`, four, six)
}

// ways is every route inside but the kernel's own.
func (c *subject) ways() string {
	c.t.Helper()
	var ways []string
	for _, family := range []string{"-4", "-6"} {
		for route := range strings.Lines(sh(c.t, "ip", "-n", c.name, family, "route")) {
			if !strings.Contains(route, "proto kernel") {
				ways = append(ways, strings.TrimSpace(route))
			}
		}
	}
	return strings.Join(ways, "\n")
}

func TestChainedTheRuntimesOwnRoutesStay(t *testing.T) {
	onGround(t)
	c := chained(t, "vpn-ways", true)
	sh(t, "ip", "-n", c.name, "route", "add", "10.5.0.0/16", "via", "192.0.2.1", "metric", "100")
	before := c.ways()
	c.configuration = both(`"0.0.0.0/0","10.5.0.0/16","10.2.0.0/24"`, `"::/0","fd02::/64"`)
	for range 2 {
		c.must("ADD")
		c.must("CHECK")
		after := c.ways()
		contains(t, "the routes", after, "10.2.0.0/24 via 192.0.2.1 dev eth0 proto 83", "fd02::/64 via 2001:db8::1 dev eth0 proto 83")
		contains(t, "the routes", after, strings.Split(before, "\n")...)
		if n := strings.Count(after, "proto 83"); n != 2 {
			t.Errorf("%d routes are ours:\n%s", n, after)
		}
	}
	c.must("DEL")
	if after := c.ways(); after != before {
		t.Errorf("it was:\n%s\nand is:\n%s", before, after)
	}
	// What the runtime takes away is ours to make.
	c.must("ADD")
	sh(t, "ip", "-n", c.name, "route", "del", "default")
	c.fails("CHECK", 104, "has lost its route to 0.0.0.0/0")
	c.must("ADD")
	c.must("CHECK")
	contains(t, "the routes", c.ways(), "default via 192.0.2.1 dev eth0 proto 83")
	// And what it makes beside ours is its own from then on.
	sh(t, "ip", "-n", c.name, "route", "add", "default", "via", "192.0.2.1", "metric", "100")
	c.must("CHECK")
	c.must("ADD")
	if after := c.ways(); strings.Contains(after, "default via 192.0.2.1 dev eth0 proto 83") {
		t.Errorf("ours is left beside it:\n%s", after)
	}
	c.must("CHECK")
}

func TestChainedWithoutAGatewayThePeersStayReachable(t *testing.T) {
	onGround(t)
	c := chained(t, "vpn-noway", false)
	before := c.ways()
	for _, networks := range [][2]string{{`"0.0.0.0/0"`, `"::/0"`}, {`"0.0.0.0/1","128.0.0.0/1"`, `"::/1"`}, {`"198.51.100.0/24"`, `"2001:db8:9::/64"`}} {
		c.configuration = both(networks[0], networks[1])
		c.must("ADD")
		c.must("CHECK")
		for peer, gateway := range map[string]string{"198.51.100.9": "192.0.2.1", "2001:db8:9::9": "2001:db8::1"} {
			contains(t, "the way with "+networks[0], sh(t, "ip", "-n", c.name, "route", "get", peer), " via "+gateway+" ")
		}
	}
	c.must("DEL")
	if after := c.ways(); after != before {
		t.Errorf("it was:\n%s\nand is:\n%s", before, after)
	}
	// Where the runtime has no way, ours are on the link.
	sh(t, "ip", "-n", c.name, "route", "del", "default")
	sh(t, "ip", "-n", c.name, "-6", "route", "del", "default")
	c.configuration = both(`"0.0.0.0/0"`, `"::/0"`)
	c.must("ADD")
	c.must("CHECK")
	contains(t, "the routes", c.ways(), "default dev eth0 proto 83 scope link", "default dev eth0 proto 83 metric 1024")
	// What the runtime gets later takes nothing from ours.
	c.configuration = both(`"0.0.0.0/1","128.0.0.0/1"`, `"::/1"`)
	c.must("ADD")
	sh(t, "ip", "-n", c.name, "route", "add", "default", "via", "192.0.2.1")
	c.must("CHECK")
}
