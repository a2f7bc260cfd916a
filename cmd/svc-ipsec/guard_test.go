package main

import (
	"fmt"
	"strings"
	"testing"
)

// withoutTables makes nft fail until the test ends, as on a kernel without nftables.
func withoutTables(t *testing.T) {
	t.Helper()
	sh(t, "mount", "--bind", "/bin/false", "/usr/sbin/nft")
	t.Cleanup(func() { sh(t, "umount", "/usr/sbin/nft") })
}

func TestAGuardOfPoliciesThatIsFlushedIsAskedFor(t *testing.T) {
	onGround(t)
	withoutTables(t)
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
	c.startAnew("ActiveState", "active")
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
	onGround(t)
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
	withoutTables(t)
	if policies := nothing(); strings.Contains(policies, "10.7.0.0/24") {
		t.Errorf("left are:\n%s", policies)
	}
}
