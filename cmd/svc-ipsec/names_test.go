package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// hosts replaces the lines of /etc/hosts until the end of the test. The sandbox has its own /etc/hosts.
func hosts(t *testing.T, lines string) {
	t.Helper()
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile("/etc/hosts", before, 0o644) })
	if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n"+lines), 0o644); err != nil {
		t.Fatal(err)
	}
}

// asksForADD reports whether the health requests an ADD for this reason, at the time that is after seconds later than
// the lookup. The lookup was less than 15 s ago.
func asksForADD(h spec.Health, after int, reason string) bool {
	return h.Again != nil && h.Again.After <= after && h.Again.After > after-15 && h.Again.Reason == reason
}

func TestPeerAddressFollowsItsName(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-name")
	hosts(t, "200.200.200.7 vpn.ground.test\n200.200.200.8 vpn.ground.test\n")
	// Both connections are response-only, because a connection that initiates requests the next ADD earlier than a name
	// does.
	configured := func(peer string) string {
		named := fmt.Sprintf(`,{"id":"named","peerAddress":%q,`+
			`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.7.0.0/24"],"psk":"k"}`, peer)
		return strings.ReplaceAll(fmt.Sprintf(oneConnection, named), `"psk"`, `"initiator":"response-only","psk"`)
	}
	c.configuration = configured("vpn.ground.test")
	c.must("ADD")
	h := c.health()
	if !asksForADD(h, 300, "peer name expires") || h.Connections[1].Reason != "" {
		t.Errorf("health %+v", h)
	}
	conn := func() string {
		t.Helper()
		text, err := os.ReadFile("/run/svc-ipsec/vpn-name/conns/named-0-0.conf")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "ground.test") {
			t.Errorf("the conn contains the name:\n%s", text)
		}
		return string(text)
	}
	contains(t, "the conn", conn(), "right=200.200.200.7\n", "rightid=200.200.200.7\n")
	serial := serials(c.whack("--status"))
	hosts(t, "200.200.200.6 vpn.ground.test\n200.200.200.7 vpn.ground.test\n")
	c.must("ADD")
	if now := serials(c.whack("--status")); now["named-0-0"] != serial["named-0-0"] {
		t.Error("the address was changed although the name still has the old one")
	}
	hosts(t, "200.200.200.8 vpn.ground.test\n")
	c.must("CHECK")
	contains(t, "the conn before the next ADD", conn(), "right=200.200.200.7\n")
	c.must("ADD")
	contains(t, "the conn", conn(), "right=200.200.200.8\n")
	now := serials(c.whack("--status"))
	if now["named-0-0"] == serial["named-0-0"] || now["first-0-0"] != serial["first-0-0"] {
		t.Errorf("conns %v, before %v", now, serial)
	}
	routes := sh(t, "ip", "-n", c.name, "route")
	if strings.Contains(routes, "200.200.200.7") || !strings.Contains(routes, "200.200.200.8 via") {
		t.Errorf("the routes:\n%s", routes)
	}
	c.must("CHECK")
	hosts(t, "")
	c.must("ADD")
	h = c.health()
	if !asksForADD(h, 30, "peer name not found") {
		t.Errorf("again %+v", h.Again)
	}
	contains(t, "the message", h.Message, "peer name vpn.ground.test", "its last address 200.200.200.8 is used")
	if kept := serials(c.whack("--status")); kept["named-0-0"] != now["named-0-0"] {
		t.Error("the conn was loaded again because its name was not found")
	}
	c.must("CHECK")
	contains(t, "CHECK's message", c.health().Message, "peer name vpn.ground.test")
	c.configuration = configured("never.ground.test")
	c.must("ADD")
	h = c.health()
	contains(t, "the reason", h.Connections[1].Reason, `peerAddress "never.ground.test": `)
	if !asksForADD(h, 30, "peer name not found") || h.Connections[0].Reason != waitsForPeer {
		t.Errorf("health %+v", h)
	}
	if kept := serials(c.whack("--status")); kept["named-0-0"] != "" || kept["first-0-0"] != serial["first-0-0"] {
		t.Errorf("conns %v", kept)
	}
	c.must("CHECK")
}

// silentDNS makes a DNS server that does not answer the only one of this host, until the end of the test.
func silentDNS(t *testing.T) {
	t.Helper()
	before, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	silent, err := net.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		t.Skipf("requires port 53 of the loopback: %v", err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	if err := os.WriteFile("/etc/resolv.conf", []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile("/etc/resolv.conf", before, 0o644) })
}

func TestSilentDNSServerDoesNotBlockADD(t *testing.T) {
	requireSandbox(t)
	silentDNS(t)
	c := newContainer(t, "vpn-silent")
	var named []string
	for i := range 20 {
		named = append(named, fmt.Sprintf(`,{"id":"n%d","peerAddress":"n%d.ground.test",`+
			`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%d.0.0/24"],"psk":"k"}`, i, i, i+20))
	}
	c.configuration = fmt.Sprintf(oneConnection, strings.Join(named, ""))
	clock := busyclock.Start()
	c.must("ADD")
	if took := clock.Elapsed(); took > 10*time.Second {
		t.Errorf("ADD took %s, and the timeout for all names is 3 s", took)
	}
	for _, connection := range c.health().Connections[1:] {
		contains(t, connection.ID, connection.Reason, "no answer from DNS")
	}
	if loaded := serials(c.whack("--status")); loaded["first-0-0"] == "" || len(loaded) != 1 {
		t.Errorf("conns %v", loaded)
	}
	c.must("CHECK")
}
