package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestReconfigureChangesOnlyDifferences(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-again")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	pid, before := c.property("MainPID"), serials(c.whack("--status"))
	requireUnchangedConns := func(when string, conns ...string) map[string]string {
		t.Helper()
		after := serials(c.whack("--status"))
		for _, conn := range conns {
			if before[conn] == "" || after[conn] != before[conn] {
				t.Errorf("%s: conn %s was loaded again (%s, %s)", when, conn, before[conn], after[conn])
			}
		}
		if c.property("MainPID") != pid {
			t.Fatalf("%s: the daemon was restarted", when)
		}
		before = after
		return after
	}
	c.must("ADD")
	requireUnchangedConns("the same configuration", "first-0-0", "second-0-0", "six-0-0")
	c.configuration = strings.Replace(c.configuration, "to-paris", "to-lyon", 1)
	c.must("ADD")
	requireUnchangedConns("a new name", "first-0-0", "second-0-0", "six-0-0")
	c.configuration = strings.Replace(c.configuration, "another-secret", "yet-another-secret", 1)
	old := before["six-0-0"]
	c.must("ADD")
	if after := requireUnchangedConns("a new secret", "first-0-0", "second-0-0"); after["six-0-0"] == old {
		t.Error("the new secret changed nothing")
	}
	c.configuration = fmt.Sprintf(oneConnection, `,{"id":"third","peerAddress":"200.200.200.9",`+
		`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.9.0.0/24"],"psk":"k","ikePolicy":{"ikeVersion":"v1"}}`)
	c.port = `{"addresses":["169.254.0.5/30"],"mac":"02:00:00:00:00:05"}`
	c.must("ADD")
	after := requireUnchangedConns("other connections, on another port", "first-0-0")
	if after["second-0-0"] != "" || after["six-0-0"] != "" || after["third-0-0"] == "" {
		t.Errorf("conns %v", after)
	}
	routes := sh(t, "ip", "-n", c.name, "route")
	contains(t, "the routes", routes, "200.200.200.9 via 169.254.0.5", "10.9.0.0/24 via 169.254.0.5")
	if strings.Contains(routes, "10.3.0.0") || strings.Contains(routes, "169.254.0.1 ") {
		t.Errorf("old routes remain:\n%s", routes)
	}
	if strings.Contains(sh(t, "ip", "link", "show", "vpn-again"), "master") {
		t.Error("the veth is still a port of the bridge")
	}
	c.must("CHECK")
	c.configuration = fmt.Sprintf(oneConnection, `,{"id":"bad","peerAddress":"192.0.2.300",`+
		`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.9.0.0/24"],"psk":"k"}`)
	c.must("ADD")
	requireUnchangedConns("an additional connection that is refused", "first-0-0")
	contains(t, "the reason", fmt.Sprint(c.health().Connections[1].Reason), "peerAddress")
	c.requirePrivateFiles()
	c.configuration = `{"connections":[]}`
	c.must("ADD")
	contains(t, "the message", c.health().Message, "nothing to run")
	c.must("CHECK")
	if state := c.property("ActiveState"); state != "inactive" {
		t.Errorf("the daemon is %s", state)
	}
	c.configuration = fmt.Sprintf(oneConnection, "")
	c.must("ADD")
	c.must("CHECK")
}

// TestEditOfDescriptionsChangesNothing changes only values that the daemon does not get. Then svc-ipsec may only read
// the status of the daemon.
func TestEditOfDescriptionsChangesNothing(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-names")
	document := func(named string) string {
		names := fmt.Sprintf(`"name":%q,"description":"that is what %[1]s is for",`, named)
		policies := fmt.Sprintf(`"ikePolicy":{%s"pfs":"group15","id":%q},"ipsecPolicy":{%[1]s"id":%[2]q},`, names,
			named)
		connections := strings.ReplaceAll(fmt.Sprintf(oneConnection, moreConnections)[1:], `"psk"`,
			policies+`"description":"`+named+`","initiator":"response-only","psk"`)
		return `{` + names + `"id":"` + named + `",` + connections
	}
	c.configuration = document("paris")
	c.must("ADD")
	// The output contains the handle of the table, so it is different if an equal table has replaced the table.
	tableAndGuard := func() string {
		table := tryShell("ip", "netns", "exec", c.name, "nft", "-a", "list", "table", "inet", "svc-ipsec")
		return counters.ReplaceAllString(table, "") + c.guard()
	}
	before, guard := serials(c.whack("--status")), tableAndGuard()
	calls := "/run/svc-ipsec/" + c.name + "/run/calls" // in the only directory that these programs can write
	for _, program := range []string{"whack", "addconn"} {
		replaceProgram(t, program, `echo "${0##*/} $*" >>`+calls+`; exec "$0.real" "$@"`)
	}
	// Only IPv4: on a new link the kernel still changes the link-local address of IPv6.
	monitor := exec.Command("ip", "-4", "-n", c.name, "monitor", "link", "address", "route", "neigh", "rule")
	var events strings.Builder
	monitor.Stdout = &events
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{
		document("lyon"), strings.Replace(document("nice"), "to-paris", "to-nice", 1), document("nice") + "\n",
	} {
		if err := os.RemoveAll(calls); err != nil {
			t.Fatal(err)
		}
		c.configuration = document
		c.must("ADD")
		text, _ := os.ReadFile(calls)
		for call := range strings.Lines(string(text)) {
			args := strings.Fields(call)
			changes := slices.ContainsFunc(args[min(3, len(args)):], func(option string) bool {
				return option != "--status" && option != "--trafficstatus"
			})
			if args[0] != "whack" || len(args) < 4 || changes {
				t.Errorf("ADD ran %s", call)
			}
		}
		if len(text) == 0 {
			t.Error("no call was recorded, not even the one that reads the status")
		}
	}
	_ = monitor.Process.Signal(os.Interrupt)
	_ = monitor.Wait()
	if now := tableAndGuard(); events.String() != "" || now != guard {
		t.Errorf("the network was changed:\n%s\n%s\n%s", events.String(), guard, now)
	}
	if after := serials(c.whack("--status")); !maps.Equal(after, before) {
		t.Errorf("conns %v, before %v", after, before)
	}
	if name := c.health().Connections[0].Name; name != "to-paris" {
		t.Errorf("the name is %s", name)
	}
}

// TestConflictingEditStopsOnlyTheEditedConnection edits one of two connections to one peer, which must have the same
// IKE policy and key. The edited connection is refused, and the other one keeps running.
func TestConflictingEditStopsOnlyTheEditedConnection(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-edit")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	before := serials(c.whack("--status"))
	for _, edit := range []struct{ old, new, want string }{
		{`"id":"first"`, `"id":"first","ikePolicy":{"pfs":"group15"}`, `ikePolicy: connection "second"`},
		{`the-secret-of-the-ground-test"}`, `a-new-secret-of-the-ground-test"}`, `psk: connection "second"`},
		{`"connections":[`,
			`"connections":[{"id":"second","peerAddress":"200.200.200.7","localCidrs":["10.1.0.0/24"],` +
				`"peerCidrs":["10.7.0.0/24"],"psk":"k"},`, `connections[2] has it`},
	} {
		c.configuration = strings.Replace(fmt.Sprintf(oneConnection, moreConnections), edit.old, edit.new, 1)
		c.must("ADD")
		contains(t, "the reason", c.health().Connections[0].Reason, edit.want)
		after := serials(c.whack("--status"))
		for _, conn := range []string{"second-0-0", "six-0-0"} {
			if after[conn] != before[conn] {
				t.Errorf("%s: conn %s was loaded again", edit.new, conn)
			}
		}
	}
}

// TestFailedADDRestoresRoutesAndGuard has an ADD that fails after it changed the network. It must restore the routes
// and the guard of the connections that the last successful ADD selected to run. These are not the connections that
// would run in a new container with the same configuration.
func TestFailedADDRestoresRoutesAndGuard(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-kept")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	c.configuration = strings.Replace(c.configuration, `"id":"first"`, `"id":"first","ikePolicy":{"pfs":"group15"}`, 1)
	c.must("ADD")
	contains(t, "the reason", c.health().Connections[0].Reason, `ikePolicy: connection "second"`)
	routesAndGuard := func() string { return sh(t, "ip", "-n", c.name, "route") + c.guard() }
	before, good := routesAndGuard(), c.configuration
	contains(t, "the routes", before, "10.3.0.0/24 via")
	contains(t, "the guard", c.guard(), " 10.3.0.0/24 ")
	c.configuration = strings.Replace(good, `["10.3.0.0/24"]`, `["10.3.0.0/24","10.33.0.0/24"]`, 1)
	sh(t, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", "svc-"+c.name)
	failure, err := c.try("ADD")
	sh(t, "systemctl", "kill", "--kill-whom=main", "--signal=CONT", "svc-"+c.name)
	if err != nil || failure == nil {
		t.Fatalf("ADD with a stopped daemon process: %v, %v", failure, err)
	}
	if after := routesAndGuard(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	c.must("CHECK")
	c.must("ADD")
	contains(t, "routes and guard", routesAndGuard(), "10.3.0.0/24 via", "10.33.0.0/24 via")
}

var counters = regexp.MustCompile(`packets \d+ bytes \d+`)

// guard returns the rules that drop unencrypted packets: the nftables table, or the XFRM policies with action block if
// the kernel has no nftables.
func (c *container) guard() string {
	c.t.Helper()
	nft := []string{"netns", "exec", c.name, "nft", "list"}
	if tables := tryShell("ip", append(nft, "tables", "inet")...); strings.Contains(tables, "svc-ipsec") {
		return counters.ReplaceAllString(sh(c.t, "ip", append(nft, "table", "inet", "svc-ipsec")...), "")
	}
	policies := strings.Split("\n"+sh(c.t, "ip", "-n", c.name, "xfrm", "policy"), "\nsrc ")
	policies = slices.DeleteFunc(policies, func(policy string) bool {
		return !strings.Contains(policy, "action block")
	})
	slices.Sort(policies)
	return strings.Join(policies, "\n")
}

// TestOtherNetworksKeepTheirTunnels removes a network of a connection, and adds one before the others. Each network has
// its own tunnel, and the tunnels of the other networks must not be interrupted.
func TestOtherNetworksKeepTheirTunnels(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-nets")
	with := func(networks ...string) map[string]string {
		t.Helper()
		c.configuration = strings.Replace(fmt.Sprintf(oneConnection, ""),
			`["10.2.0.0/24"]`, `["`+strings.Join(networks, `","`)+`"]`, 1)
		c.must("ADD")
		c.must("CHECK")
		found := map[string]string{}
		for conn, serial := range serials(c.whack("--status")) {
			text, err := os.ReadFile("/run/svc-ipsec/vpn-nets/conns/" + conn + ".conf")
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(text), "rightsubnet=")
			network, _, _ := strings.Cut(rest, "\n")
			found[network] = serial
		}
		if len(found) != len(networks) {
			t.Errorf("%v: the loaded networks are %v", networks, found)
		}
		return found
	}
	before := with("10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24")
	after := with("10.9.0.0/24", "10.4.0.0/24", "10.3.0.0/24")
	for _, network := range []string{"10.3.0.0/24", "10.4.0.0/24"} {
		if before[network] != after[network] {
			t.Errorf("the conn for %s was loaded again", network)
		}
	}
}

var serialPattern = regexp.MustCompile(`"([^"]+)":.*conn serial: (\$[0-9]+);`)

// serials returns the serial numbers of the conns in the daemon's status, by the name of the conn. A conn that is
// loaded again gets another number.
func serials(status string) map[string]string {
	found := map[string]string{}
	for _, m := range serialPattern.FindAllStringSubmatch(status, -1) {
		found[m[1]] = m[2]
	}
	return found
}

func TestKilledDaemonRestartsWithItsConns(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-kill")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	c.killDaemon("ActiveState", "active")
	c.must("CHECK")
	c.awaitConn("first-0-0")
	c.awaitConn("six-0-0")
	sh(t, "systemctl", "stop", "svc-vpn-kill")
	c.fails("CHECK", 104, "the daemon does not run")
	c.must("ADD")
	c.must("CHECK")
}

// TestEditWhileDaemonRestarts edits a connection while a restarted daemon loads its connections. ADD must wait until
// they are loaded, because the daemon would otherwise replace the edited connection by the old one.
func TestEditWhileDaemonRestarts(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-anew")
	connections := connectionsOfPairs(16)
	c.configuration = documentOf(connections...)
	c.must("ADD")
	c.configuration = strings.Replace(c.configuration, `"10.9.15.0/24"`, `"10.99.0.0/24"`, 1)
	c.killDaemon("SubState", "running")
	c.must("ADD")
	status := c.whack("--status")
	contains(t, "the edited connection", status, "===10.99.0.0/24")
	if found := serials(status); len(found) != 2048 || strings.Contains(status, "10.9.15.0/24") {
		t.Errorf("%d conns; the old form of the edited connection is loaded: %v", len(found),
			strings.Contains(status, "10.9.15.0/24"))
	}
	// Only lines that the daemon itself logged, because addconn may repeat them.
	journal := tryShell("journalctl", "--no-pager", "-o", "cat",
		"_SYSTEMD_INVOCATION_ID="+c.property("InvocationID"), "_PID="+c.property("MainPID"))
	for _, conn := range []string{"c0-0-0", "c3-3-3", "c7-15-14"} {
		if n := strings.Count(journal, `"`+conn+`": added `); n != 1 {
			t.Errorf("conn %s was added %d times", conn, n)
		}
	}
	c.must("CHECK")
}

// TestReconfigureOrientsConns restarts the daemon while the external address is missing, so that its conns are not
// oriented. A reconfigure must correct this.
func TestReconfigureOrientsConns(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-bare")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	sh(t, "ip", "-n", c.name, "addr", "del", "100.100.100.2/32", "dev", "svc0")
	c.killDaemon("ActiveState", "active")
	c.awaitConn("first-0-0")
	c.awaitConn("six-0-0")
	contains(t, "the status", c.whack("--status"), "unoriented")
	before := serials(c.whack("--status"))
	c.must("ADD")
	if status := c.whack("--status"); strings.Contains(status, "unoriented") {
		t.Errorf("a conn is not oriented after ADD:\n%s", status)
	}
	if after := serials(c.whack("--status")); after["six-0-0"] != before["six-0-0"] {
		t.Error("the conn with another local address was loaded again")
	}
	c.must("CHECK")
}

func TestDaemonAcceptsAllIdentityTypes(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-ids")
	ids := []string{
		"192.0.2.77", "2001:db8::77", "vpn.example.org", "@vpn2.example.org", "@192.0.2.9", "joe.doe+x@example.org",
		"@#0102ff", "@[branch-7/x]", "C=FR, O=Example Corp., OU=R&D (main), CN=paris's",
		"C=FR,ST=A,L=B,O=C,OU=D,CN=a.b-c:1@d,emailAddress=joe@example.org",
		"DC=org,UID=joe,SN=x,S=y,G=z,N=n,I=i,T=t,D=d,ID=1,ND=2,TCGID=3,Email=a@b,unstructuredName=u", "under_score",
	}
	var connections []string
	for i, id := range ids {
		quoted, _ := json.Marshal(id)
		connections = append(connections, fmt.Sprintf(`{"id":"c%d","peerAddress":"198.51.100.%d",`+
			`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%d.0.0/24"],"psk":"k","localId":%[4]s,"peerId":%[4]s}`,
			i, i+1, i+2, quoted))
	}
	c.configuration = `{"externalIps":["100.100.100.2"],"connections":[` + strings.Join(connections, ",") + `]}`
	c.must("ADD")
	for i, connection := range c.health().Connections {
		if connection.Reason != "" && !slices.Contains(absentPeerReasons, connection.Reason) {
			t.Errorf("%s: %s", ids[i], connection.Reason)
		}
	}
	if got := len(serials(c.whack("--status"))); got != len(ids) {
		t.Errorf("%d conns are loaded, want %d", got, len(ids))
	}
}

func TestForeignUnitIsNotChanged(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-unit")
	sh(t, "systemd-run", "--unit=svc-vpn-unit", "sleep", "600")
	defer sh(t, "systemctl", "stop", "svc-vpn-unit")
	c.fails("ADD", 101, "svc-vpn-unit.service")
	c.must("DEL")
	contains(t, "the log", c.stderr, "level=WARN", "svc-vpn-unit.service")
	if state := c.property("ActiveState"); state != "active" {
		t.Errorf("the unit is %s", state)
	}
}
