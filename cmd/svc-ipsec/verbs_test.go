package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestADDAndCHECKAndDEL(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-one")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	result, err := spec.ParseResult([]byte(c.stdout), "vpn-one")
	if err != nil || len(result.Units) != 1 || len(result.CNI.Interfaces) != 2 || len(result.CNI.IPs) != 4 {
		t.Fatalf("result %v: %s", err, c.stdout)
	}
	contains(t, "the veth", sh(t, "ip", "-d", "link", "show", "vpn-one"),
		"alias by-hand:vpn-one:vpn-one-id", "master br-test", "UP")
	contains(t, "svc0", sh(t, "ip", "-n", c.name, "addr", "show", "svc0"), "ca:08:1a:94:29:0e",
		"100.100.100.2/32", "169.254.0.2/30", "2001:db8:1::2/128", "fd00::2/126")
	contains(t, "the routes", sh(t, "ip", "-n", c.name, "route"),
		"200.200.200.2 via 169.254.0.1", "10.1.0.0/24 via 169.254.0.1", "10.2.0.0/24 via 169.254.0.1")
	contains(t, "the routes", sh(t, "ip", "-n", c.name, "-6", "route"),
		"2001:db8:2::2 via fd00::1", "fd02::/64 via fd00::1", "mtu 1400")
	contains(t, "the neighbours", sh(t, "ip", "-n", c.name, "neigh"),
		"169.254.0.1 dev svc0 lladdr 02:00:00:00:00:01 PERMANENT")
	if routes := sh(t, "ip", "-n", c.name, "route", "show", "default"); routes != "" {
		t.Errorf("a default route: %s", routes)
	}
	for key, want := range map[string]string{
		"Slice": "svc-ipsec.slice", "Type": "notify", "SyslogIdentifier": "vpn-one", "NoNewPrivileges": "yes",
		"Environment": "SVC_OWNER=by-hand:vpn-one:vpn-one-id", "Description": "IPSEC service container vpn-one",
	} {
		if got := c.property(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	contains(t, "the status of the daemon", c.control("status"), `"first-0-0"`, `"second-0-0"`, `"six-0-0"`)
	contains(t, "the status with an option of whack", c.control("--briefstatus"), "IKE SAs: total")
	c.must("CHECK")
	if h := c.health(); h.Code != spec.Running || len(h.Connections) != 3 || len(h.Connections[2].Pairs) != 1 {
		t.Errorf("health %+v", h)
	}
	sh(t, "ip", "-n", c.name, "addr", "del", "100.100.100.2/32", "dev", "svc0")
	c.fails("CHECK", 104, "has lost address 100.100.100.2/32")
	c.must("DEL")
	c.requireRemoved()
	c.must("DEL")
	c.fails("CHECK", spec.CodeUnknownContainer, "no such container")
}

func TestFailedADDLeavesNothing(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-fail")
	c.port = `{"addresses":["169.254.0.1/30"],"bridge":"br-none"}`
	c.fails("ADD", 102, "br-none")
	c.requireRemoved()
	c.port = `{"addresses":["169.254.0.1/30"]}`
	c.configuration = `{"connection":[]}`
	c.fails("ADD", spec.CodeConfiguration, `unknown key "connection"`)
	c.requireRemoved()
	c.configuration = fmt.Sprintf(oneConnection, "")
	c.namespace = "/proc/self/ns/net"
	c.fails("ADD", 8, "network namespace of this program")
	c.requireRemoved()
	c.namespace = "/run/netns/none"
	c.fails("ADD", spec.CodeEnvironment, "CNI_NETNS")
	c.requireRemoved()
	c.namespace = "/run/netns/" + c.name
	sh(t, "ip", "-n", c.name, "link", "add", "svc0", "type", "bridge")
	c.fails("ADD", 999, "the namespace has an interface of that name")
	c.requireRemoved()
	contains(t, "the foreign interface", sh(t, "ip", "-n", c.name, "-d", "link", "show", "svc0"), "bridge")
}

func TestForeignInterfaceIsNotChanged(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-taken")
	sh(t, "ip", "link", "add", "vpn-taken", "type", "bridge")
	defer sh(t, "ip", "link", "del", "vpn-taken")
	c.fails("ADD", 101, "vpn-taken")
	if inside := sh(t, "ip", "-n", c.name, "-br", "link"); strings.Count(inside, "\n") != 1 {
		t.Errorf("links remain in the namespace: %s", inside)
	}
	c.must("DEL")
	if lines := strings.Count(c.stderr, "level=WARN"); lines != 1 {
		t.Errorf("%d warnings: %s", lines, c.stderr)
	}
	sh(t, "ip", "link", "show", "vpn-taken")
}

func TestDELKeepsContainerOfAnotherNetwork(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-hand")
	c.must("ADD")
	c.network = spec.Network
	c.must("DEL")
	contains(t, "the log", c.stderr, "level=WARN")
	c.fails("ADD", spec.CodeEnvironment, "held by container")
	c.network = "by-hand"
	c.must("CHECK")
	c.id = "another"
	c.fails("ADD", spec.CodeEnvironment, "held by container")
	c.namespace = ""
	c.must("DEL")
	c.requireRemoved()
}

func TestContainerWithoutConnectionsIsHealthy(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-idle")
	for _, test := range []struct{ configuration, want string }{
		{`{}`, "no connections"},
		{strings.Replace(fmt.Sprintf(oneConnection, ""), `"100.100.100.2","2001:db8:1::2"`, "", 1), "no external IP"},
		{strings.Replace(fmt.Sprintf(oneConnection, ""), `"id":"first"`, `"id":"first","adminStateUp":false`, 1),
			"administrative state down"},
	} {
		c.configuration = test.configuration
		c.must("ADD")
		contains(t, "the message", c.health().Message, test.want)
		contains(t, "the result", c.stdout, `"units":[]`)
		c.must("CHECK")
		contains(t, "the message", c.health().Message, test.want)
		if pids := c.property("MainPID"); pids != "0" {
			t.Errorf("%s: a daemon runs", test.want)
		}
	}
	c.must("DEL")
	c.requireRemoved()
}

func TestGCKeepsAttachedAndForeignContainers(t *testing.T) {
	requireSandbox(t)
	keep, drop := newContainer(t, "vpn-keep"), newContainer(t, "vpn-drop")
	drop.port = ""
	hand := newContainer(t, "vpn-other")
	keep.network, drop.network = "net-gc", "net-gc"
	hand.port = ""
	for _, c := range []*container{keep, drop, hand} {
		c.must("ADD")
	}
	keep.must("GC")
	drop.must("CHECK")
	keep.attachments = `[{"containerID":"vpn-keep-id","ifname":"svc0"}]`
	keep.must("GC")
	keep.attachments = ""
	drop.requireRemoved()
	keep.must("CHECK")
	hand.must("CHECK")
}

func TestSTATUSNamesMissingProgram(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-status")
	c.must("STATUS")
	sh(t, "mount", "--bind", "/dev/null", "/usr/sbin/nft")
	defer sh(t, "umount", "/usr/sbin/nft")
	c.fails("STATUS", spec.CodeNotAvailable, "nft")
}

func TestChainedInterfaceIsKept(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-chain")
	c.foreign, c.port, c.iface = true, "", "eth0"
	sh(t, "ip", "link", "add", "host-side", "type", "veth", "peer", "name", "eth0", "netns", c.name)
	defer func() { _ = exec.Command("ip", "link", "del", "host-side").Run() }()
	sh(t, "ip", "-n", c.name, "addr", "add", "192.0.2.2/24", "dev", "eth0")
	sh(t, "ip", "-n", c.name, "link", "set", "eth0", "up")
	c.previous = `{"cniVersion":"1.1.0","interfaces":[{"name":"host-side"},
		{"name":"eth0","mac":"02:00:00:00:00:09","sandbox":"` + c.namespace + `"}],
		"ips":[{"address":"192.0.2.2/24","gateway":"192.0.2.1","interface":1}]}`
	c.configuration = `{"externalIps":["192.0.2.3"]}`
	c.fails("ADD", spec.CodeConfiguration, "192.0.2.2")
	c.configuration = `{"connections":[{"id":"a","peerAddress":"198.51.100.9",` +
		`"localCidrs":["192.0.2.2/32"],"peerCidrs":["10.2.0.0/24"],"psk":"k"}]}`
	c.port = `{"bridge":"br-test"}`
	c.fails("ADD", spec.CodeConfiguration, "port")
	c.port = ""
	c.must("ADD")
	contains(t, "the result", c.stdout, `"host-side"`, `"02:00:00:00:00:09"`)
	contains(t, "the routes", sh(t, "ip", "-n", c.name, "route"), "10.2.0.0/24 via 192.0.2.1")
	c.must("CHECK")
	// A refused connection gets no route, because the runtime has its own route for these packets.
	good := c.configuration
	c.configuration = strings.Replace(good, `"psk":"k"`, `"pks":"k"`, 1)
	c.must("ADD")
	contains(t, "the reason", c.health().Connections[0].Reason, "pks")
	contains(t, "the guard", c.guard(), "10.2.0.0/24")
	if routes := sh(t, "ip", "-n", c.name, "route"); strings.Contains(routes, "10.2.0.0") {
		t.Errorf("the refused connection has a route:\n%s", routes)
	}
	c.configuration = good
	c.must("ADD")
	// After an interrupted ADD, the state does not contain the kind of guard that ADD has set.
	matches, err := filepath.Glob("/run/svc-ipsec/*/state.json") // the name of the directory is derived from the ids
	if err != nil || len(matches) != 1 {
		t.Fatal(matches, err)
	}
	state := matches[0]
	written, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	withoutGuard := regexp.MustCompile(`"guard":"[a-z]+"`).ReplaceAll(written, []byte(`"guard":""`))
	if bytes.Equal(withoutGuard, written) {
		t.Fatalf("no guard in %s", written)
	}
	if err := os.WriteFile(state, withoutGuard, 0o600); err != nil {
		t.Fatal(err)
	}
	c.must("DEL")
	if routes := sh(t, "ip", "-n", c.name, "route"); strings.Contains(routes, "10.2.0.0") {
		t.Errorf("routes remain:\n%s", routes)
	}
	contains(t, "the interface", sh(t, "ip", "-n", c.name, "addr", "show", "eth0"), "192.0.2.2/24")
	if rules := tryShell("ip", "netns", "exec", c.name, "nft", "list", "ruleset"); rules != "" {
		t.Errorf("nftables rules remain:\n%s", rules)
	}
}

func TestNamespaceOfProcessIsPinnedUntilDEL(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-pin")
	c.foreign = true
	sleeper := exec.Command("ip", "netns", "exec", c.name, "sleep", "300")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	eventually(t, "the process is in the namespace", func() bool {
		a, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", sleeper.Process.Pid))
		b, _ := os.Readlink("/proc/self/ns/net")
		return a != "" && a != b
	})
	c.namespace = fmt.Sprintf("/proc/%d/ns/net", sleeper.Process.Pid)
	c.must("ADD")
	var result struct{ Units []string }
	if err := json.Unmarshal([]byte(c.stdout), &result); err != nil || len(result.Units) != 1 {
		t.Fatal(c.stdout)
	}
	c.name = strings.TrimSuffix(strings.TrimPrefix(result.Units[0], "svc-"), ".service")
	if !regexp.MustCompile(`^x[0-9a-f]{10}$`).MatchString(c.name) {
		t.Errorf("name %s", c.name)
	}
	if path := c.namespaceOfUnit(); path != "/run/svc-ipsec/"+c.name+"/netns" {
		t.Errorf("the unit enters %s", path)
	}
	c.must("CHECK")
	c.must("DEL")
	c.requireRemoved()
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), c.name) {
		t.Error("the bind mount of the namespace remains")
	}
}

func TestNoSecretIsLoggedOrShown(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-quiet")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	c.must("CHECK")
	const hex = "7468652d7365637265742d6f662d746865" // the-secret-of-the
	lines, _ := os.ReadFile("/proc/" + c.property("MainPID") + "/cmdline")
	for what, text := range map[string]string{
		"journal": sh(t, "journalctl", "--no-pager", "-o", "export"), "command line": string(lines),
		"unit": sh(t, "systemctl", "show", "svc-vpn-quiet"), "status": c.whack("--status"),
	} {
		if strings.Contains(text, "of-the-ground-test") || strings.Contains(text, hex) {
			t.Errorf("the %s contains a secret", what)
		}
	}
	c.requirePrivateFiles()
}

// TestChangedSysctlIsRestored changes sysctls. CHECK must request an ADD, which restores them without restarting the
// daemon.
func TestChangedSysctlIsRestored(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-settings")
	c.must("ADD")
	c.must("CHECK")
	if again := c.health().Again; again != nil && strings.Contains(again.Reason, "net/") {
		t.Fatalf("CHECK right after ADD requests %+v", again)
	}
	pid := c.property("MainPID")
	for _, row := range []struct {
		inside            bool
		key, wrong, right string
	}{
		{true, "net/ipv4/conf/all/forwarding", "0", "1"},
		{true, "net/ipv4/conf/all/rp_filter", "1", "0"},
		{true, "net/ipv4/conf/svc0/send_redirects", "1", "0"},
		{true, "net/ipv6/conf/default/accept_ra", "1", "0"},
		{false, "net/ipv4/conf/" + c.name + "/accept_redirects", "1", "0"},
	} {
		sysctl := func(args ...string) string {
			command := append([]string{"sysctl", "-n"}, args...)
			if row.inside {
				command = append([]string{"ip", "netns", "exec", c.name}, command...)
			}
			return strings.TrimSpace(sh(t, command[0], command[1:]...))
		}
		sysctl("-w", row.key+"="+row.wrong)
		c.must("CHECK")
		want := row.key + " is " + row.wrong + ", not " + row.right
		if again := c.health().Again; again == nil || again.After != 0 || again.Reason != want {
			t.Errorf("CHECK requests %+v, want ADD for %s", again, want)
		}
		c.must("ADD")
		if now := sysctl(row.key); now != row.right {
			t.Errorf("after ADD %s is %s", row.key, now)
		}
		c.must("CHECK")
		if again := c.health().Again; again != nil && strings.Contains(again.Reason, "net/") {
			t.Errorf("after ADD CHECK requests %+v", again)
		}
	}
	if now := c.property("MainPID"); now != pid {
		t.Errorf("another daemon: %s, was %s", now, pid)
	}
}

// TestChangedNeighbourIsRestored changes and removes the neighbour entry of a gateway. No packet would reach the
// gateway while the tunnels are up.
func TestChangedNeighbourIsRestored(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-neigh")
	c.must("ADD")
	c.must("CHECK")
	if again := c.health().Again; again != nil && strings.Contains(again.Reason, "neighbour") {
		t.Fatalf("CHECK right after ADD requests %+v", again)
	}
	for _, change := range [][]string{
		{"replace", "169.254.0.1", "lladdr", "02:00:00:00:00:99", "nud", "permanent"},
		{"del", "fd00::1"},
	} {
		sh(t, "ip", append(append([]string{"-n", c.name, "neigh"}, change...), "dev", "svc0")...)
		c.must("CHECK")
		want := "the neighbour entry of gateway " + change[1] + " does not have MAC 02:00:00:00:00:01"
		if again := c.health().Again; again == nil || again.After != 0 || again.Reason != want {
			t.Errorf("%v: CHECK requests %+v", change, again)
		}
		c.must("ADD")
		neighbours := sh(t, "ip", "-n", c.name, "neigh", "show", "nud", "permanent")
		contains(t, "the neighbours", neighbours, change[1]+" dev svc0 lladdr 02:00:00:00:00:01")
		c.must("CHECK")
		if again := c.health().Again; again != nil && strings.Contains(again.Reason, "neighbour") {
			t.Errorf("%v: after ADD CHECK requests %+v", change, again)
		}
	}
}

// TestBridgeIsFoundByAlternativeName names the bridge by an alternative name, which the kernel accepts. CHECK must
// accept it too.
func TestBridgeIsFoundByAlternativeName(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-altname")
	sh(t, "ip", "link", "property", "add", "dev", "br-test", "altname", "uplink")
	t.Cleanup(func() { tryShell("ip", "link", "property", "del", "dev", "br-test", "altname", "uplink") })
	c.port = `{"addresses":["169.254.0.1/30"],"mac":"02:00:00:00:00:01","bridge":"uplink"}`
	c.must("ADD")
	c.must("CHECK")
	sh(t, "ip", "link", "set", c.name, "nomaster")
	c.fails("CHECK", 104, "interface vpn-altname is not in bridge uplink")
	c.must("ADD")
	c.must("CHECK")
}

// TestInterfaceHasTheMTUOfASmallerBridge uses a bridge with the MTU of an overlay network. An interface with a larger
// MTU would lose its largest packets without notice.
func TestInterfaceHasTheMTUOfASmallerBridge(t *testing.T) {
	requireSandbox(t)
	sh(t, "ip", "link", "add", "br-overlay", "mtu", "1450", "type", "bridge")
	t.Cleanup(func() { tryShell("ip", "link", "del", "br-overlay") })
	c := newContainer(t, "vpn-overlay")
	c.port = `{"addresses":["169.254.0.1/30"],"mac":"02:00:00:00:00:01","bridge":"br-overlay"}`
	c.must("ADD")
	for _, link := range []string{
		sh(t, "ip", "link", "show", c.name), sh(t, "ip", "-n", c.name, "link", "show", "svc0"),
	} {
		contains(t, "the link", link, " mtu 1450 ")
	}
}

// TestHostIsNotChanged checks that containers do not change the bridge and other settings of the host.
func TestHostIsNotChanged(t *testing.T) {
	requireSandbox(t)
	sh(t, "ip", "link", "add", "br-host", "type", "bridge")
	sh(t, "ip", "link", "add", "card", "address", "52:54:00:12:34:56", "mtu", "9000",
		"type", "veth", "peer", "name", "card-peer")
	t.Cleanup(func() { tryShell("ip", "link", "del", "card"); tryShell("ip", "link", "del", "br-host") })
	sh(t, "ip", "link", "set", "card", "master", "br-host", "up")
	sh(t, "ip", "link", "set", "br-host", "up")
	bridge := func() string {
		return sh(t, "sh", "-c", "cat /sys/class/net/br-host/address /sys/class/net/br-host/mtu")
	}
	before := bridge()
	contains(t, "the bridge", before, "52:54:00:12:34:56", "9000")
	for i := range 3 {
		c := newContainer(t, fmt.Sprintf("vpn-host%d", i))
		c.port = `{"addresses":["169.254.0.1/30"],"mac":"02:00:00:00:00:01","bridge":"br-host"}`
		c.must("ADD")
		c.must("CHECK")
		if now := bridge(); now != before {
			t.Errorf("the bridge was %q and is %q", before, now)
		}
		if got := sh(t, "ip", "-6", "address", "show", "dev", c.name); strings.TrimSpace(got) != "" {
			t.Errorf("the host's side has an IPv6 address:\n%s", got)
		}
		c.must("DEL")
		if now := bridge(); now != before {
			t.Errorf("after DEL the bridge is %q, was %q", now, before)
		}
	}
	c := newContainer(t, "vpn-alone") // without a bridge
	c.port = `{"addresses":["169.254.0.1/30"]}`
	c.must("ADD")
	if got := sh(t, "ip", "-6", "address", "show", "dev", c.name); strings.TrimSpace(got) != "" {
		t.Errorf("the host's side has an IPv6 address:\n%s", got)
	}
	if got := sh(t, "systemctl", "show", "-P", "IgnoreOnIsolate", "svc-vpn-alone.service"); got != "yes\n" {
		t.Errorf("IgnoreOnIsolate is %q", got)
	}
}
