package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestIPv6AddressGetsAnotherPrefixLength changes only the prefix length of an address. The kernel does not accept the
// same IPv6 address with two prefix lengths.
func TestIPv6AddressGetsAnotherPrefixLength(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-six")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	pid := ""
	for _, test := range []struct{ port, address, gateway string }{
		{"2001:db8:1::1/126", "2001:db8:1::2/126", "2001:db8:1::1"}, // the external address is on the port's network
		{"2001:db8:1::1/64", "2001:db8:1::2/64", "2001:db8:1::1"},
		{"fd00::1/126", "2001:db8:1::2/128", "fd00::1"},
		{"fd00::1/64", "fd00::2/64", "fd00::1"},
		{"2001:db8:1::1/126", "2001:db8:1::2/126", "2001:db8:1::1"},
	} {
		c.port = fmt.Sprintf(`{"addresses":["169.254.0.1/30",%q],"mac":"02:00:00:00:00:01"}`, test.port)
		c.must("ADD")
		c.must("CHECK")
		addresses := sh(t, "ip", "-n", c.name, "-6", "addr", "show", "svc0", "scope", "global")
		contains(t, test.port+": the addresses", addresses, test.address+" ")
		if n := strings.Count(addresses, "2001:db8:1::2/"); n != 1 {
			t.Errorf("%s: the external address is there %d times:\n%s", test.port, n, addresses)
		}
		contains(t, test.port+": the routes", sh(t, "ip", "-n", c.name, "-6", "route"),
			"2001:db8:2::2 via "+test.gateway+" dev svc0 proto 83 src 2001:db8:1::2 ")
		if status := c.whack("--status"); strings.Contains(status, "unoriented") {
			t.Errorf("%s: a conn is not oriented:\n%s", test.port, status)
		}
		if now := c.property("MainPID"); pid != "" && now != pid {
			t.Errorf("%s: the daemon was restarted", test.port)
		}
		pid = c.property("MainPID")
	}
}
