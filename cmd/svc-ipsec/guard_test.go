package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
)

// withoutNftables makes nft fail until the end of the test, as on a kernel without nftables.
func withoutNftables(t *testing.T) {
	t.Helper()
	sh(t, "mount", "--bind", "/bin/false", "/usr/sbin/nft")
	t.Cleanup(func() { sh(t, "umount", "/usr/sbin/nft") })
}

func TestFlushedPoliciesOfGuardAreRestored(t *testing.T) {
	requireSandbox(t)
	withoutNftables(t)
	c := newContainer(t, "vpn-policies")
	const reason = "the guard's policies are gone"
	requested := func() bool {
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
	if !requested() || c.health().Again.After != 0 {
		t.Errorf("CHECK requests %+v", c.health().Again)
	}
	c.must("ADD")
	if after := guard(); after != before {
		t.Errorf("the guard before:\n%s\nafter:\n%s", before, after)
	}
	c.must("CHECK")
	if requested() {
		t.Error("CHECK requests ADD although the guard is complete")
	}
	c.configuration = `{}`
	c.must("ADD")
	c.must("CHECK")
	if requested() {
		t.Error("CHECK requests ADD for a guard without networks")
	}
}

// TestStoppedDaemonLeavesNoPolicies has a policy that a daemon did not remove because it was killed while it stopped.
// When no connection can run, only the policies of the guard may remain.
func TestStoppedDaemonLeavesNoPolicies(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-nothing")
	good := fmt.Sprintf(oneConnection, "")
	remainingPolicies := func() (policies string) {
		t.Helper()
		c.configuration = good
		c.must("ADD")
		sh(t, "ip", "-n", c.name, "xfrm", "policy", "add", "src", "10.1.0.0/24", "dst", "10.7.0.0/24", "dir", "out",
			"priority", "1000",
			"tmpl", "src", "100.100.100.2", "dst", "200.200.200.2", "proto", "esp", "mode", "tunnel")
		// The guard covers the networks of a refused connection.
		c.configuration = strings.Replace(good, `"psk"`, `"pks"`, 1)
		c.must("ADD")
		contains(t, "the message", c.health().Message, "no connection can run")
		contains(t, "the guard", c.guard(), "10.2.0.0/24")
		c.must("CHECK")
		if again := c.health().Again; again != nil {
			t.Errorf("CHECK requests %+v", again)
		}
		return sh(t, "ip", "-n", c.name, "xfrm", "policy")
	}
	if policies := remainingPolicies(); policies != "" {
		t.Errorf("remaining policies:\n%s", policies)
	}
	c.must("DEL")
	withoutNftables(t)
	if policies := remainingPolicies(); strings.Contains(policies, "10.7.0.0/24") {
		t.Errorf("remaining policies:\n%s", policies)
	}
}

// TestDELAfterLostUnitLeavesNoPolicies has a daemon whose unit systemd has unloaded before DEL, for example because an
// earlier DEL was killed after it had stopped the unit.
func TestDELAfterLostUnitLeavesNoPolicies(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-lost-unit")
	c.configuration = fmt.Sprintf(oneConnection, "")
	c.must("ADD")
	sh(t, "systemctl", "stop", "svc-vpn-lost-unit.service")
	eventually(t, "systemd has unloaded the unit", func() bool { return c.property("LoadState") == "not-found" })
	sh(t, "ip", "-n", c.name, "xfrm", "policy", "add", "src", "10.1.0.0/24", "dst", "10.7.0.0/24", "dir", "out",
		"tmpl", "src", "100.100.100.2", "dst", "200.200.200.2", "proto", "esp", "mode", "tunnel")
	contains(t, "the policies before", sh(t, "ip", "-n", c.name, "xfrm", "policy"), "10.7.0.0/24")
	c.must("DEL")
	if policies := sh(t, "ip", "-n", c.name, "xfrm", "policy"); policies != "" {
		t.Errorf("remaining policies:\n%s", policies)
	}
}

// requireBlocked fails the test if a policy does not drop packets from an address in the namespace to another address.
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
		c.t.Errorf("a policy dropped %[3]d of 3 packets from %[1]s to %[2]s: %[4]s", from, to, after-before, out)
	}
}

// TestPoliciesOfGuardCoverAllNetworks has networks that the kernel returns in another form than they were set.
func TestPoliciesOfGuardCoverAllNetworks(t *testing.T) {
	requireSandbox(t)
	withoutNftables(t)
	c := newContainer(t, "vpn-every")
	const changed = "the guard's policies are gone"
	networks := [][2]string{
		{"0.0.0.0/0", "10.2.0.0/24"}, {"::/0", "2001:db8:5::/64"}, {"10.1.0.0/24", "0.0.0.0/0"}, {"fd01::/64", "::/0"},
		{"fd01::/64", "fd02::/64"}, {"fd01::/64", "2001:db8::/32"},
	}
	destinations := map[string]string{
		"2001:db8:5::/64": "2001:db8:5::9", "::/0": "2001:db8:7::9", "fd02::/64": "fd02::9",
		"2001:db8::/32": "2001:db8:9::9",
	}
	sh(t, "ip", "-n", c.name, "link", "set", "lo", "up")
	for _, address := range []string{"10.1.0.5/32", "fd01::5/128"} {
		sh(t, "ip", "-n", c.name, "address", "add", address, "dev", "lo")
	}
	for _, pair := range networks {
		c.configuration = fmt.Sprintf(`{"externalIps":["100.100.100.2","2001:db8:1::2"],"connections":[
			{"id":"a","peerAddress":"200.200.200.2","localCidrs":[%q],"peerCidrs":[%q],
			"psk":"the-secret-of-the-ground-test"}]}`, pair[0], pair[1])
		for range 2 { // at the second ADD, the guard exists already
			c.must("ADD")
			c.must("CHECK")
			if again := c.health().Again; again != nil && again.Reason == changed {
				t.Errorf("%v: CHECK requests %+v", pair, again)
			}
			if strings.Contains(pair[1], ":") {
				c.requireBlocked("fd01::5", destinations[pair[1]])
			} else {
				c.requireBlocked("10.1.0.5", "10.2.0.9")
			}
		}
		sh(t, "ip", "-n", c.name, "xfrm", "policy", "deleteall", "action", "block")
		c.must("CHECK")
		if again := c.health().Again; again == nil || again.Reason != changed {
			t.Errorf("%v: the policies are removed, and CHECK requests %+v", pair, again)
		}
	}
}

// TestPolicyOrder checks that the policies for a narrow network precede those for a wide one. The kernel of the sandbox
// has no ESP. So the test adds a policy with action allow and the same priority in the place of the policy of a tunnel.
func TestPolicyOrder(t *testing.T) {
	requireSandbox(t)
	t.Run("without nftables", func(t *testing.T) {
		withoutNftables(t)
		narrowPolicyPrecedes(t, "200.200.200.3")
	})
	// The rules cannot distinguish two tunnels to the same gateway.
	t.Run("with nftables", func(t *testing.T) { narrowPolicyPrecedes(t, "200.200.200.2") })
}

func narrowPolicyPrecedes(t *testing.T, gateway string) {
	c := newContainer(t, "vpn-order")
	const key = `"psk":"the-secret-of-the-ground-test"`
	const wide = `{"id":"wide","peerAddress":"200.200.200.2",` +
		`"localCidrs":["10.1.0.0/16"],"peerCidrs":["10.0.0.0/8"],` + key + `}`
	narrow := `{"id":"narrow","peerAddress":"` + gateway + `",` +
		`"localCidrs":["10.1.0.0/16"],"peerCidrs":["10.3.0.0/24"],` + key + `}`
	set := func(connections ...string) {
		t.Helper()
		c.configuration = fmt.Sprintf(`{"externalIps":["100.100.100.2"],"connections":[%s]}`,
			strings.Join(connections, ","))
		c.must("ADD")
		c.must("CHECK")
		if again := c.health().Again; again != nil && strings.Contains(again.Reason, "guard") {
			t.Errorf("CHECK requests %+v", again)
		}
	}
	allow := func(to, priority string) {
		t.Helper()
		sh(t, "ip", "-n", c.name, "xfrm", "policy", "add", "src", "10.1.0.0/16", "dst", to, "dir", "out",
			"priority", priority, "action", "allow")
	}
	set(wide)
	sh(t, "ip", "-n", c.name, "link", "set", "lo", "up")
	sh(t, "ip", "-n", c.name, "address", "add", "10.1.0.5/32", "dev", "lo")
	allow("10.0.0.0/8", "1761521")
	set(wide, narrow)
	c.requireBlocked("10.1.0.5", "10.3.0.10")
	set(wide, strings.Replace(narrow, key, `"pskFile":"/nowhere/key"`, 1))
	// nftables drops packets that a tunnel carries, and no tunnel is up in this test.
	if gateway != "200.200.200.2" {
		c.requireBlocked("10.1.0.5", "10.3.0.10")
	}
	// The policy of the narrow tunnel has precedence over the guard.
	set(wide, narrow)
	allow("10.3.0.0/24", "1761489")
	counters := func() string { return sh(t, "ip", "netns", "exec", c.name, "cat", "/proc/net/xfrm_stat") }
	before := counters()
	_ = tryShell("ip", "netns", "exec", c.name, "ping", "-n", "-c", "1", "-W", "1", "-I", "10.1.0.5", "10.3.0.10")
	if after := counters(); after != before {
		t.Errorf("the counters before:\n%s\nafter:\n%s", before, after)
	}
}

func TestChangedRulesOfGuardAreRestored(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-rules")
	c.configuration = fmt.Sprintf(oneConnection, "")
	requested := func() string {
		t.Helper()
		c.must("CHECK")
		if again := c.health().Again; again != nil && strings.Contains(again.Reason, "guard") {
			return again.Reason
		}
		return ""
	}
	nft := func(command ...string) { sh(t, "ip", append([]string{"netns", "exec", c.name, "nft"}, command...)...) }
	c.must("ADD")
	for _, change := range [][]string{
		{"flush", "chain", "inet", "svc-ipsec", "peers"}, {"insert", "rule", "inet", "svc-ipsec", "output", "accept"},
	} {
		if reason := requested(); reason != "" {
			t.Errorf("before a change CHECK requests ADD: %s", reason)
		}
		nft(change...)
		if reason := requested(); reason != "the guard against packets in clear was changed" {
			t.Errorf("after %v the reason is %q", change, reason)
		}
		c.must("ADD")
	}
	// The rules count the packets that they drop. Changed counters are no difference.
	sh(t, "ip", "netns", "exec", c.name, "sh", "-c", "ping -n -c 1 -W 1 10.2.0.9 || true")
	if reason := requested(); reason != "" {
		t.Errorf("after a dropped packet CHECK requests ADD: %s", reason)
	}
}

// TestNftThatFailsOnceKeepsTheGuard edits the peer's networks while nft fails. Policies beside the rules of the former
// guard would not be a guard for the new networks only.
func TestNftThatFailsOnceKeepsTheGuard(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-nftfails")
	c.configuration = fmt.Sprintf(oneConnection, "")
	c.must("ADD")
	rules := func() string {
		return sh(t, "ip", "netns", "exec", c.name, "nft", "-s", "list", "table", "inet", "svc-ipsec")
	}
	before, policies := rules(), sh(t, "ip", "-n", c.name, "xfrm", "policy", "show")
	pid := c.property("MainPID")
	c.configuration = strings.ReplaceAll(c.configuration, "10.2.0.0/24", "10.22.0.0/24")
	t.Run("while nft fails", func(t *testing.T) {
		withoutNftables(t)
		failure, err := c.try("ADD")
		if err != nil || failure == nil || !strings.Contains(failure.Error(), "guard against packets in clear") {
			t.Errorf("ADD: %v, %v", failure, err)
		}
	})
	if after := rules(); after != before {
		t.Errorf("rules before:\n%s\nafter:\n%s", before, after)
	}
	if after := sh(t, "ip", "-n", c.name, "xfrm", "policy", "show"); after != policies {
		t.Errorf("policies before:\n%s\nafter:\n%s", policies, after)
	}
	c.must("ADD")
	if after := rules(); !strings.Contains(after, "10.22.0.0/24") || c.property("MainPID") != pid {
		t.Errorf("main process %s, before %s; rules:\n%s", c.property("MainPID"), pid, after)
	}
	if reason := c.health().Message; strings.Contains(reason, "nftables") {
		t.Errorf("health message %q", reason)
	}
}

// TestUnmountedNamespaceIsBroken has a file in the place of the namespace, as `umount` leaves it.
func TestUnmountedNamespaceIsBroken(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-unmounted")
	c.configuration = fmt.Sprintf(oneConnection, "")
	c.must("ADD")
	path := "/run/netns/" + c.name
	sh(t, "umount", path)
	c.fails("CHECK", cni.CodeBroken, "no namespace is mounted on "+path)
	sh(t, "mount", "--bind", "/proc/"+c.property("MainPID")+"/ns/net", path)
	c.must("CHECK")
}
