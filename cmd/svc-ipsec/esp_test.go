package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// sites creates two sites and a router. The router sends the traffic of a site for the other site to the container of
// the first site. sites returns the two containers, which are not created yet:
//
//	site-l 10.1.0.5 — router — 10.2.0.5, 10.3.0.5 site-r
//	         br-left | | br-right
//	             vpn-l vpn-r
func sites(t *testing.T) (left, right *container) {
	t.Helper()
	left, right = newContainer(t, "vpn-l"), newContainer(t, "vpn-r")
	script := `set -e
ip netns add router; ip -n router link set lo up
ip netns exec router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
for s in left right; do
	ip link add br-$s type bridge; ip link set br-$s up
	ip link add r-$s type veth peer name $s netns router; ip link set r-$s master br-$s up
done
ip -n router link set left address 02:00:00:00:00:01 up; ip -n router link set right address 02:00:00:00:00:02 up
ip -n router addr add 169.254.0.1/30 dev left; ip -n router addr add 169.254.1.1/30 dev right
ip -n router route add 100.100.100.2 via 169.254.0.2; ip -n router route add 200.200.200.2 via 169.254.1.2
for s in l r; do
	ip netns add site-$s; ip link add to-$s netns router type veth peer name eth0 netns site-$s
	ip -n router link set to-$s up; ip -n site-$s link set eth0 up; ip -n site-$s link set lo up
done
ip -n router addr add 10.1.0.1/24 dev to-l; ip -n site-l addr add 10.1.0.5/24 dev eth0
ip -n site-l route add default via 10.1.0.1
ip -n router addr add 10.2.0.1/24 dev to-r; ip -n site-r addr add 10.2.0.5/24 dev eth0
ip -n site-r route add default via 10.2.0.1
ip -n site-r addr add 10.3.0.5/32 dev eth0; ip -n router route add 10.3.0.0/24 via 10.2.0.5
ip -n router rule add iif to-l lookup 100; ip -n router route add default via 169.254.0.2 table 100
ip -n router rule add iif to-r lookup 101; ip -n router route add default via 169.254.1.2 table 101
`
	t.Cleanup(func() {
		// The kernel removes the links together with the namespace of their peers, but later.
		for _, name := range []string{"r-left", "r-right", "br-left", "br-right"} {
			_ = exec.Command("ip", "link", "del", name).Run()
		}
		for _, name := range []string{"router", "site-l", "site-r"} {
			_ = exec.Command("ip", "netns", "del", name).Run()
		}
	})
	sh(t, "bash", "-c", script)
	left.port = `{"addresses":["169.254.0.1/30"],"mac":"02:00:00:00:00:01","bridge":"br-left"}`
	right.port = `{"addresses":["169.254.1.1/30"],"mac":"02:00:00:00:00:02","bridge":"br-right"}`
	return left, right
}

// tunnels returns a configuration with one connection for each pair of a local and a peer network.
func tunnels(external, peer string, pairs ...[2]string) string {
	var connections []string
	for i, p := range pairs {
		connections = append(connections, fmt.Sprintf(`{"id":"%d","peerAddress":%q,"localCidrs":[%q],"peerCidrs":[%q],`+
			`"psk":"a key-of-the-ground-test"}`, i, peer, p[0], p[1]))
	}
	return fmt.Sprintf(`{"externalIps":[%q],"connections":[%s]}`, external, strings.Join(connections, ","))
}

// TestANarrowNetworkDoesNotTakeTheWideTunnel has two connections whose networks overlap. Their two gateways are the
// same container. Packets for the narrow network must not use the tunnel of the wide network.
func TestANarrowNetworkDoesNotTakeTheWideTunnel(t *testing.T) {
	requireSandbox(t)
	if lacks := network.KernelLacks(t.TempDir(), "esp", true); lacks != "" {
		t.Skip("requires kernel ESP: " + lacks)
	}
	left, right := sites(t)
	sh(t, "ip", "-n", "router", "route", "add", "200.200.200.9", "via", "169.254.1.2")
	const key = `"psk":"a key-of-the-ground-test"`
	wide := `{"id":"wide","peerAddress":"200.200.200.2",` +
		`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.0.0.0/8"],` + key + `}`
	narrow := func(gateway, key string) string {
		return fmt.Sprintf(`{"id":"narrow","peerAddress":%q,"localCidrs":["10.1.0.0/24"],`+
			`"peerCidrs":["10.3.0.0/24"],%s}`,
			gateway, key)
	}
	connections := func(list ...string) string {
		return fmt.Sprintf(`{"externalIps":["100.100.100.2"],"connections":[%s]}`, strings.Join(list, ","))
	}
	onlyWide := fmt.Sprintf(`{"externalIps":["200.200.200.2"],"connections":[
		{"id":"wide","peerAddress":"100.100.100.2","localCidrs":["10.0.0.0/8"],"peerCidrs":["10.1.0.0/24"],%s}]}`, key)
	right.configuration = onlyWide
	right.must("ADD")
	left.configuration = connections(wide)
	left.must("ADD")
	eventually(t, "a ping through the wide tunnel", func() bool {
		return ping("site-l", "10.2.0.5") && ping("site-l", "10.3.0.5")
	})
	for name, second := range map[string]string{
		"the gateway of the narrow connection does not answer": narrow("200.200.200.9", key),
		"the key of the narrow connection is missing":          narrow("200.200.200.9", `"pskFile":"/nowhere/key"`),
		"the two connections have the same gateway":            narrow("200.200.200.2", key),
	} {
		left.configuration = connections(wide, second)
		left.must("ADD")
		left.must("CHECK")
		if again := left.health().Again; again != nil && strings.Contains(again.Reason, "guard") {
			t.Errorf("%s: CHECK requests ADD: %+v", name, again)
		}
		if ping("site-l", "10.3.0.5") {
			t.Errorf("%s: packets for the narrow network use the wide tunnel", name)
		}
		if !ping("site-l", "10.2.0.5") {
			t.Errorf("%s: packets for the wide network do not use the wide tunnel", name)
		}
	}
	// When the narrow connection has a tunnel, its packets use this tunnel.
	right.configuration = fmt.Sprintf(`{"externalIps":["200.200.200.2"],"connections":[
		{"id":"wide","peerAddress":"100.100.100.2","localCidrs":["10.0.0.0/8"],"peerCidrs":["10.1.0.0/24"],%[1]s},
		{"id":"narrow","peerAddress":"100.100.100.2","localCidrs":["10.3.0.0/24"],"peerCidrs":["10.1.0.0/24"],%[1]s}]}`,
		key)
	right.must("ADD")
	left.configuration = connections(wide, narrow("200.200.200.2", key))
	left.must("ADD")
	eventually(t, "a ping through the narrow tunnel", func() bool { return ping("site-l", "10.3.0.5") })
	left.must("CHECK")
	if h := left.health(); h.Connections[1].Status != spec.Active || h.Connections[1].Pairs[0].BytesOut == 0 {
		t.Errorf("the narrow connection is %+v", h.Connections[1])
	}
	// After the narrow connection is removed, all packets use the wide tunnel.
	right.configuration = onlyWide
	right.must("ADD")
	left.configuration = connections(wide)
	left.must("ADD")
	eventually(t, "a ping through the wide tunnel again", func() bool { return ping("site-l", "10.3.0.5") })
}

func TestATunnelWhoseESPIsDroppedHasANote(t *testing.T) {
	requireSandbox(t)
	if lacks := network.KernelLacks(t.TempDir(), "esp", true); lacks != "" {
		t.Skip("requires kernel ESP: " + lacks)
	}
	left, right := sites(t)
	one := [2]string{"10.1.0.0/24", "10.2.0.0/24"}
	left.configuration = tunnels("100.100.100.2", "200.200.200.2", one)
	right.configuration = tunnels("200.200.200.2", "100.100.100.2", [2]string{one[1], one[0]})
	right.must("ADD")
	left.must("ADD")
	eventually(t, "a ping through the tunnel", func() bool { return ping("site-l", "10.2.0.5") })
	note := func() string {
		t.Helper()
		left.must("CHECK")
		connection := left.health().Connections[0]
		if connection.Status != spec.Active {
			t.Fatalf("the connection is %+v", connection)
		}
		return connection.Reason
	}
	if reason := note(); reason != "" {
		t.Errorf("with traffic the reason is %q", reason)
	}
	sh(t, "ip", "-n", "router", "rule", "add", "pref", "1", "ipproto", "esp", "blackhole")
	eventually(t, "the note", func() bool {
		if ping("site-l", "10.2.0.5") {
			t.Fatal("ESP is not dropped")
		}
		return strings.HasPrefix(note(), "no packets received since 20")
	})
	sh(t, "ip", "-n", "router", "rule", "del", "pref", "1")
	eventually(t, "a ping through the tunnel again", func() bool { return ping("site-l", "10.2.0.5") })
	if reason := note(); reason != "" {
		t.Errorf("with traffic again the reason is %q", reason)
	}
}

// TestARefusedRekeyLeadsToANewIKESA has a peer with pfs none. It accepts the first Child SA, which needs no
// Diffie-Hellman exchange, and refuses each rekey of it.
func TestARefusedRekeyLeadsToANewIKESA(t *testing.T) {
	requireSandbox(t)
	if lacks := network.KernelLacks(t.TempDir(), "esp", true); lacks != "" {
		t.Skip("requires kernel ESP: " + lacks)
	}
	left, right := sites(t)
	end := func(external, id, peer, local, remote, more string) string {
		return fmt.Sprintf(`{"externalIps":[%q],"connections":[{"id":%q,"peerAddress":%q,"localCidrs":[%q],`+
			`"peerCidrs":[%q],`+
			`"psk":"a key-of-the-ground-test",%s}]}`, external, id, peer, local, remote, more)
	}
	// The peer has a longer lifetime, so it never rekeys first.
	right.configuration = end("200.200.200.2", "right", "100.100.100.2", "10.2.0.0/24", "10.1.0.0/24",
		`"initiator":"response-only","ipsecPolicy":{"pfs":"none"}`)
	configuration := func(pfs string) string {
		return end("100.100.100.2", "left", "200.200.200.2", "10.1.0.0/24", "10.2.0.0/24",
			`"ipsecPolicy":{"lifetime":60`+pfs+`}`)
	}
	left.configuration = configuration("")
	right.must("ADD")
	left.must("ADD")
	// until runs CHECK, and ADD when CHECK requests it, as the supervisor does.
	until := func(what string, condition func() bool) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Minute); !condition(); time.Sleep(time.Second) {
			if time.Now().After(deadline) {
				t.Fatalf("still not: %s", what)
			}
			left.must("CHECK")
			if again := left.health().Again; again != nil && again.After == 0 {
				left.must("ADD")
			}
		}
	}
	const established = `^"left-0-0" #\d+: initiator established IKE SA`
	until("a ping", func() bool { return ping("site-l", "10.2.0.5") })
	if n := left.logged(established); n != 1 {
		t.Fatalf("%d IKE SAs", n)
	}
	until("a new IKE SA", func() bool { return left.logged(established) > 1 })
	until("a ping through its tunnel", func() bool { return ping("site-l", "10.2.0.5") })
	// With the same setting as the peer, the Child SA is rekeyed without a new IKE SA.
	left.configuration = configuration(`,"pfs":"none"`)
	left.must("ADD")
	until("a ping without PFS", func() bool { return ping("site-l", "10.2.0.5") })
	before, rekeyed := left.logged(established), left.logged(`rekeyed Child SA`)
	until("a rekey", func() bool { return left.logged(`rekeyed Child SA`) > rekeyed })
	if !ping("site-l", "10.2.0.5") || left.logged(established) != before {
		t.Errorf("%d IKE SAs, %d before", left.logged(established), before)
	}
}

// TestAnEditAfterAnUpgradeKeepsATunnelOfIKEv1 has a conn file for IKEv1 that release 0.1.0 wrote with another value of
// initial-contact. The conn must not be loaded again for this difference while its tunnel is up.
func TestAnEditAfterAnUpgradeKeepsATunnelOfIKEv1(t *testing.T) {
	requireSandbox(t)
	if lacks := network.KernelLacks(t.TempDir(), "esp", true); lacks != "" {
		t.Skip("requires kernel ESP: " + lacks)
	}
	previous, err := filepath.Abs("build/previous/svc-ipsec")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(previous); err != nil {
		t.Skip("requires make previous, and the project's root as working directory")
	}
	left, right := sites(t)
	const v1 = `"ikePolicy":{"ikeVersion":"v1"}`
	right.configuration, left.configuration = oneEnd(t, false, "right", v1), oneEnd(t, true, "left", v1)
	right.must("ADD")
	left.executable = previous
	eventually(t, "ADD of release 0.1.0 succeeds", func() bool { // its deadlines are too short on a slow machine
		failure, err := left.try("ADD")
		return failure == nil && err == nil
	})
	eventually(t, "a ping through the tunnel", func() bool { return ping("site-l", "10.2.0.5") })
	before, tunnel := serials(left.whack("--status"))["left-0-0"], spis(t, "vpn-l")
	left.executable = ""
	left.must("CHECK")
	const second = `"connections":[{"id":"second","peerAddress":"200.200.200.9",` +
		`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.9.0.0/24"],"psk":"k"},`
	left.configuration = strings.Replace(left.configuration, `"connections":[`, second, 1)
	left.must("ADD")
	if now := serials(left.whack("--status")); before == "" || now["left-0-0"] != before || now["second-0-0"] == "" {
		t.Errorf("serials %v, before %q", now, before)
	}
	if now := spis(t, "vpn-l"); !slices.Equal(now, tunnel) {
		t.Errorf("SPIs %v, before %v", now, tunnel)
	}
	left.must("CHECK")
	// When the tunnel is down, the new file is loaded.
	right.must("DEL")
	left.whack("--name", "left-0-0", "--terminate")
	left.must("ADD")
	text, err := os.ReadFile("/run/svc-ipsec/vpn-l/conns/left-0-0.conf")
	if err != nil || !strings.Contains(string(text), "initial-contact=no") {
		t.Errorf("the file is %s %v", text, err)
	}
}

func ping(site, address string) bool {
	return exec.Command("ip", "netns", "exec", site, "ping", "-c1", "-W1", address).Run() == nil
}

// spis lists the SPIs of the SAs in the kernel.
func spis(t *testing.T, name string) []string {
	t.Helper()
	found := regexp.MustCompile(`spi 0x[0-9a-f]+`).FindAllString(sh(t, "ip", "-n", name, "xfrm", "state"), -1)
	return slices.DeleteFunc(found, func(s string) bool { return s == "spi 0x00000000" })
}

func TestTrafficGoesEncryptedOrNotAtAll(t *testing.T) {
	requireSandbox(t)
	if lacks := network.KernelLacks(t.TempDir(), "esp", true); lacks != "" {
		t.Skip("requires kernel ESP: " + lacks)
	}
	left, right := sites(t)
	one, two := [2]string{"10.1.0.0/24", "10.2.0.0/24"}, [2]string{"10.1.0.0/24", "10.3.0.0/24"}
	back := func(p [2]string) [2]string { return [2]string{p[1], p[0]} }
	left.configuration = tunnels("100.100.100.2", "200.200.200.2", one, two)
	right.configuration = tunnels("200.200.200.2", "100.100.100.2", back(one))
	left.must("ADD")
	if ping("site-l", "10.2.0.5") {
		t.Fatal("traffic before there is a tunnel")
	}
	capture := filepath.Join(t.TempDir(), "capture")
	stop := record(t, "left", capture)
	right.must("ADD")
	eventually(t, "a ping through the tunnel", func() bool { return ping("site-l", "10.2.0.5") })
	if !ping("site-r", "10.1.0.5") {
		t.Error("no ping the other way")
	}
	left.must("CHECK")
	h := left.health()
	if h.Connections[0].Status != spec.Active || h.Connections[0].Since == nil ||
		h.Connections[0].Pairs[0].BytesOut == 0 {
		t.Errorf("the first connection is %+v", h.Connections[0])
	}
	if h.Connections[1].Status != spec.Down {
		t.Errorf("the second connection, which the peer does not have, is %+v", h.Connections[1])
	}

	before := spis(t, "vpn-l")
	right.configuration = tunnels("200.200.200.2", "100.100.100.2", back(one), back(two))
	right.must("ADD")
	eventually(t, "a ping through the second tunnel", func() bool { return ping("site-l", "10.3.0.5") })
	after := spis(t, "vpn-l")
	for _, spi := range before {
		if !slices.Contains(after, spi) {
			t.Errorf("adding the second connection removed %s of the first one", spi)
		}
	}
	if !ping("site-l", "10.2.0.5") {
		t.Error("no ping through the first tunnel any more")
	}

	left.configuration = strings.Replace(tunnels("100.100.100.2", "200.200.200.2", two), `"id":"0"`, `"id":"1"`, 1)
	left.must("ADD")
	eventually(t, "a ping through the second tunnel, whose IKE SA was removed with the first connection", func() bool {
		return ping("site-l", "10.3.0.5")
	})

	right.must("DEL")
	for range 20 {
		if ping("site-l", "10.3.0.5") {
			t.Fatal("traffic without a tunnel")
		}
	}
	// Decrypted packets are forwarded to the site through the same interface. Packets to the other site must be
	// encrypted.
	switch seen := stop(); {
	case regexp.MustCompile(`> 10\.[23]\.0\.5: ICMP`).MatchString(seen):
		t.Errorf("unencrypted packets:\n%s", seen)
	case !strings.Contains(seen, "100.100.100.2 > 200.200.200.2: ESP("):
		t.Errorf("no ESP packets:\n%s", seen)
	}
	left.must("DEL")
	left.requireRemoved()
	right.requireRemoved()
}

// record captures the packets that an interface of the router receives. stop ends the capture and returns the output of
// tcpdump.
func record(t *testing.T, iface, path string) (stop func() string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", "router", "tcpdump", "-lni", iface, "-Q", "in", "not", "arp")
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
	stopped := false
	stop = func() string {
		if !stopped {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
			_ = file.Close()
		}
		stopped = true
		return read()
	}
	t.Cleanup(func() { stop() })
	eventually(t, "tcpdump listens", func() bool { return strings.Contains(read(), "listening on") })
	return stop
}
