package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// chained returns a container in a namespace in which a runtime has set default routes. gateways determines whether
// prevResult contains their gateways.
func chained(t *testing.T, name string, gateways bool) *container {
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
		"ips":[{"address":"192.0.2.2/24",%s"interface":0},{"address":"2001:db8::2/64",%s"interface":0}]}`,
		c.namespace, four, six)
	return c
}

// dualStack returns a configuration with one connection of each address family, to the given networks.
func dualStack(four, six string) string {
	return fmt.Sprintf(`{"connections":[
		{"id":"four","peerAddress":"198.51.100.9","localCidrs":["192.0.2.2/32"],"peerCidrs":[%s],"psk":"k"},
		{"id":"six","peerAddress":"2001:db8:9::9","localCidrs":["2001:db8::2/128"],"peerCidrs":[%s],"psk":"k"}]}`, four,
		six)
}

// routes returns the routes in the namespace, except for those that the kernel added.
func (c *container) routes() string {
	c.t.Helper()
	var routes []string
	for _, family := range []string{"-4", "-6"} {
		for route := range strings.Lines(sh(c.t, "ip", "-n", c.name, family, "route")) {
			if !strings.Contains(route, "proto kernel") {
				routes = append(routes, strings.TrimSpace(route))
			}
		}
	}
	return strings.Join(routes, "\n")
}

func TestChainedRoutesOfRuntimeAreKept(t *testing.T) {
	requireSandbox(t)
	c := chained(t, "vpn-ways", true)
	sh(t, "ip", "-n", c.name, "route", "add", "10.5.0.0/16", "via", "192.0.2.1", "metric", "100")
	before := c.routes()
	c.configuration = dualStack(`"0.0.0.0/0","10.5.0.0/16","10.2.0.0/24"`, `"::/0","fd02::/64"`)
	for range 2 {
		c.must("ADD")
		c.must("CHECK")
		after := c.routes()
		contains(t, "the routes", after, "10.2.0.0/24 via 192.0.2.1 dev eth0 proto 83",
			"fd02::/64 via 2001:db8::1 dev eth0 proto 83")
		contains(t, "the routes", after, strings.Split(before, "\n")...)
		if n := strings.Count(after, "proto 83"); n != 2 {
			t.Errorf("%d routes of svc-ipsec, want 2:\n%s", n, after)
		}
	}
	c.must("DEL")
	if after := c.routes(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	// When the runtime removes its route, svc-ipsec must add one.
	c.must("ADD")
	sh(t, "ip", "-n", c.name, "route", "del", "default")
	c.fails("CHECK", 104, "has lost its route to 0.0.0.0/0")
	c.must("ADD")
	c.must("CHECK")
	contains(t, "the routes", c.routes(), "default via 192.0.2.1 dev eth0 proto 83")
	// When the runtime adds the route again, svc-ipsec must remove its own.
	sh(t, "ip", "-n", c.name, "route", "add", "default", "via", "192.0.2.1", "metric", "100")
	c.must("CHECK")
	c.must("ADD")
	if after := c.routes(); strings.Contains(after, "default via 192.0.2.1 dev eth0 proto 83") {
		t.Errorf("the route of svc-ipsec remains:\n%s", after)
	}
	c.must("CHECK")
}

func TestChainedPeersStayReachableWithoutGateway(t *testing.T) {
	requireSandbox(t)
	c := chained(t, "vpn-noway", false)
	before := c.routes()
	for _, networks := range [][2]string{
		{`"0.0.0.0/0"`, `"::/0"`}, {`"0.0.0.0/1","128.0.0.0/1"`, `"::/1"`}, {`"198.51.100.0/24"`, `"2001:db8:9::/64"`},
	} {
		c.configuration = dualStack(networks[0], networks[1])
		c.must("ADD")
		c.must("CHECK")
		for peer, gateway := range map[string]string{"198.51.100.9": "192.0.2.1", "2001:db8:9::9": "2001:db8::1"} {
			route := sh(t, "ip", "-n", c.name, "route", "get", peer)
			contains(t, "the route with "+networks[0], route, " via "+gateway+" ")
		}
	}
	c.must("DEL")
	if after := c.routes(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	// If the runtime has no default route, the routes of svc-ipsec have no gateway.
	sh(t, "ip", "-n", c.name, "route", "del", "default")
	sh(t, "ip", "-n", c.name, "-6", "route", "del", "default")
	c.configuration = dualStack(`"0.0.0.0/0"`, `"::/0"`)
	c.must("ADD")
	c.must("CHECK")
	contains(t, "the routes", c.routes(), "default dev eth0 proto 83 scope link",
		"default dev eth0 proto 83 metric 1024")
	// A route that the runtime adds later does not affect those of svc-ipsec.
	c.configuration = dualStack(`"0.0.0.0/1","128.0.0.0/1"`, `"::/1"`)
	c.must("ADD")
	sh(t, "ip", "-n", c.name, "route", "add", "default", "via", "192.0.2.1")
	c.must("CHECK")
}
