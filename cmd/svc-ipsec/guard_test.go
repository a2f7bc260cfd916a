package main

import (
	"fmt"
	"strings"
	"testing"
)

// withoutNftables makes nft fail until the test ends, as on a kernel without nftables.
func withoutNftables(t *testing.T) {
	t.Helper()
	sh(t, "mount", "--bind", "/bin/false", "/usr/sbin/nft")
	t.Cleanup(func() { sh(t, "umount", "/usr/sbin/nft") })
}

func TestAGuardOfPoliciesThatIsFlushedIsAskedFor(t *testing.T) {
	requireSandbox(t)
	withoutNftables(t)
	c := newContainer(t, "vpn-policies")
	const reason = "the guard's policies are gone"
	asked := func() bool {
		c.t.Helper()
		again := c.health().Again
		return again != nil && again.Reason == reason
	}
	c.must("ADD")
	contains(t, "the message", c.health().Message, "XFRM policies do")
	guard := func() string { return strings.TrimSpace(c.guard()) }
	before := guard()
	contains(t, "the guard", before, "dst 10.2.0.0/24")
	c.killDaemon("ActiveState", "active")
	sh(t, "ip", "-n", c.name, "xfrm", "policy", "deleteall", "action", "block") // as Libreswan 5 does at its start
	c.must("CHECK")
	if !asked() || c.health().Again.After != 0 {
		t.Errorf("it asks for %+v", c.health().Again)
	}
	c.must("ADD")
	if after := guard(); after != before {
		t.Errorf("the guard was:\n%s\nand is:\n%s", before, after)
	}
	c.must("CHECK")
	if asked() {
		t.Error("the guard is asked for where it stands")
	}
	c.configuration = `{}`
	c.must("ADD")
	c.must("CHECK")
	if asked() {
		t.Error("a guard against nothing is asked for")
	}
}

// A daemon that was killed at its stop has not taken its policies away.
func TestAnEditToNothingLeavesNoPolicyButTheGuards(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-nothing")
	good := fmt.Sprintf(oneConnection, "")
	nothing := func() (policies string) {
		t.Helper()
		c.configuration = good
		c.must("ADD")
		sh(t, "ip", "-n", c.name, "xfrm", "policy", "add", "src", "10.1.0.0/24", "dst", "10.7.0.0/24", "dir", "out", "priority", "1000",
			"tmpl", "src", "100.100.100.2", "dst", "200.200.200.2", "proto", "esp", "mode", "tunnel")
		// A connection that is refused has its networks guarded.
		c.configuration = strings.Replace(good, `"psk"`, `"pks"`, 1)
		c.must("ADD")
		contains(t, "the message", c.health().Message, "no connection can run")
		contains(t, "the guard", c.guard(), "10.2.0.0/24")
		c.must("CHECK")
		if again := c.health().Again; again != nil {
			t.Errorf("it asks for %+v", again)
		}
		return sh(t, "ip", "-n", c.name, "xfrm", "policy")
	}
	if policies := nothing(); policies != "" {
		t.Errorf("left are:\n%s", policies)
	}
	c.must("DEL")
	withoutNftables(t)
	if policies := nothing(); strings.Contains(policies, "10.7.0.0/24") {
		t.Errorf("left are:\n%s", policies)
	}
}

// blocked wants that a packet from one address inside to another is dropped by a policy.
func (c *container) requireBlocked(from, to string) {
	c.t.Helper()
	count := func() (n int) {
		c.t.Helper()
		text := sh(c.t, "ip", "netns", "exec", c.name, "cat", "/proc/net/xfrm_stat")
		_, after, _ := strings.Cut(text, "XfrmOutPolBlock")
		if _, err := fmt.Sscan(after, &n); err != nil {
			c.t.Fatalf("%v in %q", err, text)
		}
		return n
	}
	before := count()
	out := tryShell("ip", "netns", "exec", c.name, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", "-I", from, to)
	if after := count(); after != before+3 {
		c.t.Errorf("from %s to %s %d of 3 packets were dropped by a policy: %s", from, to, after-before, out)
	}
}

// TestAGuardOfPoliciesHasEveryNetwork covers networks that the kernel's interface shows in more than one way.
func TestAGuardOfPoliciesHasEveryNetwork(t *testing.T) {
	requireSandbox(t)
	withoutNftables(t)
	c := newContainer(t, "vpn-every")
	const changed = "the guard's policies are gone"
	networks := [][2]string{{"0.0.0.0/0", "10.2.0.0/24"}, {"::/0", "2001:db8:5::/64"}, {"10.1.0.0/24", "0.0.0.0/0"}, {"fd01::/64", "::/0"},
		{"fd01::/64", "fd02::/64"}, {"fd01::/64", "2001:db8::/32"}}
	sh(t, "ip", "-n", c.name, "link", "set", "lo", "up")
	for _, address := range []string{"10.1.0.5/32", "fd01::5/128"} {
		sh(t, "ip", "-n", c.name, "address", "add", address, "dev", "lo")
	}
	for _, pair := range networks {
		c.configuration = fmt.Sprintf(`{"externalIps":["100.100.100.2","2001:db8:1::2"],"connections":[{"id":"a","peerAddress":"200.200.200.2",
			"localCidrs":[%q],"peerCidrs":[%q],"psk":"the-secret-of-the-ground-test"}]}`, pair[0], pair[1])
		for range 2 { // the second one finds the guard
			c.must("ADD")
			c.must("CHECK")
			if again := c.health().Again; again != nil && again.Reason == changed {
				t.Errorf("%v: it asks for %+v", pair, again)
			}
			if strings.Contains(pair[1], ":") {
				c.requireBlocked("fd01::5", map[string]string{"2001:db8:5::/64": "2001:db8:5::9", "::/0": "2001:db8:7::9", "fd02::/64": "fd02::9", "2001:db8::/32": "2001:db8:9::9"}[pair[1]])
			} else {
				c.requireBlocked("10.1.0.5", "10.2.0.9")
			}
		}
		sh(t, "ip", "-n", c.name, "xfrm", "policy", "deleteall", "action", "block")
		c.must("CHECK")
		if again := c.health().Again; again == nil || again.Reason != changed {
			t.Errorf("%v: the policies are gone, and it asks for %+v", pair, again)
		}
	}
}

// The wide connection's policy stands for its tunnel. The kernel of a sandbox has no ESP: one that lets packets pass in
// clear has the same place among the others.
func TestPoliciesDecideInTheOrderOfTheirNetworks(t *testing.T) {
	requireSandbox(t)
	t.Run("without nftables", func(t *testing.T) {
		withoutNftables(t)
		narrowPolicyPrecedes(t, "200.200.200.3")
	})
	// It cannot distinguish two tunnels of one gateway.
	t.Run("with nftables", func(t *testing.T) { narrowPolicyPrecedes(t, "200.200.200.2") })
}

func narrowPolicyPrecedes(t *testing.T, gateway string) {
	c := newContainer(t, "vpn-order")
	const wide = `{"id":"wide","peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/16"],"peerCidrs":["10.0.0.0/8"],"psk":"the-secret-of-the-ground-test"}`
	narrow := `{"id":"narrow","peerAddress":"` + gateway + `","localCidrs":["10.1.0.0/16"],"peerCidrs":["10.3.0.0/24"],"psk":"the-secret-of-the-ground-test"}`
	set := func(connections ...string) {
		t.Helper()
		c.configuration = fmt.Sprintf(`{"externalIps":["100.100.100.2"],"connections":[%s]}`, strings.Join(connections, ","))
		c.must("ADD")
		c.must("CHECK")
		if again := c.health().Again; again != nil && strings.Contains(again.Reason, "guard") {
			t.Errorf("it asks for %+v", again)
		}
	}
	set(wide)
	sh(t, "ip", "-n", c.name, "link", "set", "lo", "up")
	sh(t, "ip", "-n", c.name, "address", "add", "10.1.0.5/32", "dev", "lo")
	sh(t, "ip", "-n", c.name, "xfrm", "policy", "add", "src", "10.1.0.0/16", "dst", "10.0.0.0/8", "dir", "out", "priority", "1761521", "action", "allow")
	set(wide, narrow)
	c.requireBlocked("10.1.0.5", "10.3.0.10")
	set(wide, strings.Replace(narrow, `"psk":"the-secret-of-the-ground-test"`, `"pskFile":"/nowhere/key"`, 1))
	if gateway != "200.200.200.2" { // nftables drops what a tunnel carries: there is none here
		c.requireBlocked("10.1.0.5", "10.3.0.10")
	}
	// The policy of the narrow one's own tunnel precedes.
	set(wide, narrow)
	sh(t, "ip", "-n", c.name, "xfrm", "policy", "add", "src", "10.1.0.0/16", "dst", "10.3.0.0/24", "dir", "out", "priority", "1761489", "action", "allow")
	counters := func() string { return sh(t, "ip", "netns", "exec", c.name, "cat", "/proc/net/xfrm_stat") }
	before := counters()
	_ = tryShell("ip", "netns", "exec", c.name, "ping", "-n", "-c", "1", "-W", "1", "-I", "10.1.0.5", "10.3.0.10")
	if after := counters(); after != before {
		t.Errorf("the counters were\n%s\nand are\n%s", before, after)
	}
}

func TestRulesOfTheGuardThatWereChangedAreSetAgain(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-rules")
	c.configuration = fmt.Sprintf(oneConnection, "")
	asks := func() string {
		t.Helper()
		c.must("CHECK")
		if again := c.health().Again; again != nil && strings.Contains(again.Reason, "guard") {
			return again.Reason
		}
		return ""
	}
	nft := func(command ...string) { sh(t, "ip", append([]string{"netns", "exec", c.name, "nft"}, command...)...) }
	c.must("ADD")
	for _, change := range [][]string{{"flush", "chain", "inet", "svc-ipsec", "peers"}, {"insert", "rule", "inet", "svc-ipsec", "output", "accept"}} {
		if reason := asks(); reason != "" {
			t.Errorf("before a change it asks: %s", reason)
		}
		nft(change...)
		if reason := asks(); reason != "the guard against packets in clear was changed" {
			t.Errorf("after %v it asks: %q", change, reason)
		}
		c.must("ADD")
	}
	// Packets that it drops are counted.
	sh(t, "ip", "netns", "exec", c.name, "sh", "-c", "ping -n -c 1 -W 1 10.2.0.9 || true")
	if reason := asks(); reason != "" {
		t.Errorf("after a packet it asks: %s", reason)
	}
}
