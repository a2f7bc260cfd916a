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

func TestAddAgainTouchesOnlyWhatDiffers(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-again")
	c.configuration = fmt.Sprintf(oneConnection, more)
	c.must("ADD")
	pid, before := c.property("MainPID"), serials(c.whack("--status"))
	same := func(when string, conns ...string) map[string]string {
		t.Helper()
		after := serials(c.whack("--status"))
		for _, conn := range conns {
			if before[conn] == "" || after[conn] != before[conn] {
				t.Errorf("%s: conn %s was added again (%s, %s)", when, conn, before[conn], after[conn])
			}
		}
		if c.property("MainPID") != pid {
			t.Fatalf("%s: the daemon was restarted", when)
		}
		before = after
		return after
	}
	c.must("ADD")
	same("nothing differs", "first-0-0", "second-0-0", "six-0-0")
	c.configuration = strings.Replace(c.configuration, "to-paris", "to-lyon", 1)
	c.must("ADD")
	same("a new name", "first-0-0", "second-0-0", "six-0-0")
	c.configuration = strings.Replace(c.configuration, "another-secret", "yet-another-secret", 1)
	old := before["six-0-0"]
	c.must("ADD")
	if after := same("a new secret", "first-0-0", "second-0-0"); after["six-0-0"] == old {
		t.Error("the new secret changed nothing")
	}
	c.configuration = fmt.Sprintf(oneConnection, `,{"id":"third","peerAddress":"200.200.200.9","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.9.0.0/24"],"psk":"k","ikePolicy":{"ikeVersion":"v1"}}`)
	c.port = `{"addresses":["169.254.0.5/30"],"mac":"02:00:00:00:00:05"}`
	c.must("ADD")
	if after := same("one for another, on another port", "first-0-0"); after["second-0-0"] != "" || after["six-0-0"] != "" || after["third-0-0"] == "" {
		t.Errorf("conns %v", after)
	}
	contains(t, "the routes", sh(t, "ip", "-n", c.name, "route"), "200.200.200.9 via 169.254.0.5", "10.9.0.0/24 via 169.254.0.5")
	if routes := sh(t, "ip", "-n", c.name, "route"); strings.Contains(routes, "10.3.0.0") || strings.Contains(routes, "169.254.0.1 ") {
		t.Errorf("old routes are left:\n%s", routes)
	}
	if strings.Contains(sh(t, "ip", "link", "show", "vpn-again"), "master") {
		t.Error("it is still in the bridge")
	}
	c.must("CHECK")
	c.configuration = fmt.Sprintf(oneConnection, `,{"id":"bad","peerAddress":"192.0.2.300","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.9.0.0/24"],"psk":"k"}`)
	c.must("ADD")
	same("a bad one beside it", "first-0-0")
	contains(t, "the reason", fmt.Sprint(c.health().Connections[1].Reason), "peerAddress")
	c.private()
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

// What the daemon hears nothing of costs it no more than the question how its tunnels do.
func TestAnEditThatDoesNotMatterRunsNothing(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-names")
	document := func(named string) string {
		names := fmt.Sprintf(`"name":%q,"description":"that is what %[1]s is for",`, named)
		policies := fmt.Sprintf(`"ikePolicy":{%s"pfs":"group15","id":%q},"ipsecPolicy":{%[1]s"id":%[2]q},`, names, named)
		return `{` + names + `"id":"` + named + `",` + strings.ReplaceAll(fmt.Sprintf(oneConnection, more)[1:], `"psk"`, policies+`"description":"`+named+`","initiator":"response-only","psk"`)
	}
	c.configuration = document("paris")
	c.must("ADD")
	// A table that is put in the place of another one, like it or not, has another handle.
	guarded := func() string {
		return counted.ReplaceAllString(tryShell("ip", "netns", "exec", c.name, "nft", "-a", "list", "table", "inet", "svc-ipsec"), "") + c.guard()
	}
	before, guard := serials(c.whack("--status")), guarded()
	calls := "/run/svc-ipsec/" + c.name + "/run/calls" // the only directory that those programs can write to
	for _, program := range []string{"whack", "addconn"} {
		instead(t, program, `echo "${0##*/} $*" >>`+calls+`; exec "$0.real" "$@"`)
	}
	monitor := exec.Command("ip", "-4", "-n", c.name, "monitor", "link", "address", "route", "neigh", "rule") // IPv6 is busy with an address of its own at first
	var events strings.Builder
	monitor.Stdout = &events
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{document("lyon"), strings.Replace(document("nice"), "to-paris", "to-nice", 1), document("nice") + "\n"} {
		if err := os.RemoveAll(calls); err != nil {
			t.Fatal(err)
		}
		c.configuration = document
		c.must("ADD")
		text, _ := os.ReadFile(calls)
		for call := range strings.Lines(string(text)) {
			words := strings.Fields(call)
			changes := slices.ContainsFunc(words[min(3, len(words)):], func(option string) bool {
				return option != "--status" && option != "--trafficstatus"
			})
			if words[0] != "whack" || len(words) < 4 || changes {
				t.Errorf("it ran %s", call)
			}
		}
		if len(text) == 0 {
			t.Error("it did not even ask: nothing would be seen here")
		}
	}
	_ = monitor.Process.Signal(os.Interrupt)
	_ = monitor.Wait()
	if now := guarded(); events.String() != "" || now != guard {
		t.Errorf("it touched the network:\n%s\n%s\n%s", events.String(), guard, now)
	}
	if after := serials(c.whack("--status")); !maps.Equal(after, before) {
		t.Errorf("conns %v, before %v", after, before)
	}
	if name := c.health().Connections[0].Name; name != "to-paris" {
		t.Errorf("it is called %s", name)
	}
}

// Two connections to one peer must have one IKE policy and key: who edits one of them alone loses that one.
func TestAnEditThatAnotherConnectionForbidsCostsTheEditedOne(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-edit")
	c.configuration = fmt.Sprintf(oneConnection, more)
	c.must("ADD")
	before := serials(c.whack("--status"))
	for _, edit := range []struct{ old, new, says string }{
		{`"id":"first"`, `"id":"first","ikePolicy":{"pfs":"group15"}`, `ikePolicy: connection "second"`},
		{`the-secret-of-the-ground-test"}`, `a-new-secret-of-the-ground-test"}`, `psk: connection "second"`},
		{`"connections":[`, `"connections":[{"id":"second","peerAddress":"200.200.200.7","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.7.0.0/24"],"psk":"k"},`, `connections[2] has it`},
	} {
		c.configuration = strings.Replace(fmt.Sprintf(oneConnection, more), edit.old, edit.new, 1)
		c.must("ADD")
		contains(t, "the reason", c.health().Connections[0].Reason, edit.says)
		after := serials(c.whack("--status"))
		for _, conn := range []string{"second-0-0", "six-0-0"} {
			if after[conn] != before[conn] {
				t.Errorf("%s: conn %s was added again", edit.new, conn)
			}
		}
	}
}

// An ADD that fails halfway goes back to the network of what runs, and that is what the last good ADD let run: not what a
// new container would begin with.
func TestAnADDThatFailsKeepsTheRoutesAndTheGuardOfWhatRuns(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-kept")
	c.configuration = fmt.Sprintf(oneConnection, more)
	c.must("ADD")
	c.configuration = strings.Replace(c.configuration, `"id":"first"`, `"id":"first","ikePolicy":{"pfs":"group15"}`, 1)
	c.must("ADD")
	contains(t, "the reason", c.health().Connections[0].Reason, `ikePolicy: connection "second"`)
	runs := func() string { return sh(t, "ip", "-n", c.name, "route") + c.guard() }
	before, good := runs(), c.configuration
	contains(t, "the routes", before, "10.3.0.0/24 via")
	contains(t, "the guard", c.guard(), " 10.3.0.0/24 ")
	c.configuration = strings.Replace(good, `["10.3.0.0/24"]`, `["10.3.0.0/24","10.33.0.0/24"]`, 1)
	sh(t, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", "svc-"+c.name)
	failure, err := c.try("ADD")
	sh(t, "systemctl", "kill", "--kill-whom=main", "--signal=CONT", "svc-"+c.name)
	if err != nil || failure == nil {
		t.Fatalf("ADD of a daemon that is stopped: %v, %v", failure, err)
	}
	if after := runs(); after != before {
		t.Errorf("it was:\n%s\nand is:\n%s", before, after)
	}
	c.must("CHECK")
	c.must("ADD")
	contains(t, "routes and guard", runs(), "10.3.0.0/24 via", "10.33.0.0/24 via")
}

var counted = regexp.MustCompile(`packets \d+ bytes \d+`)

// guard is what keeps packets from leaving in clear: a table of nft's, or where this kernel has none, policies that block.
func (c *subject) guard() string {
	c.t.Helper()
	if tables := tryShell("ip", "netns", "exec", c.name, "nft", "list", "tables", "inet"); strings.Contains(tables, "svc-ipsec") {
		return counted.ReplaceAllString(sh(c.t, "ip", "netns", "exec", c.name, "nft", "list", "table", "inet", "svc-ipsec"), "")
	}
	policies := strings.Split("\n"+sh(c.t, "ip", "-n", c.name, "xfrm", "policy"), "\nsrc ")
	policies = slices.DeleteFunc(policies, func(policy string) bool { return !strings.Contains(policy, "action block") })
	slices.Sort(policies)
	return strings.Join(policies, "\n")
}

// A connection's networks are tunnels of their own: one that goes, or is put before the others, costs those nothing.
func TestANetworkThatGoesOrComesCostsTheOthersNothing(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-nets")
	with := func(networks ...string) map[string]string {
		t.Helper()
		c.configuration = strings.Replace(fmt.Sprintf(oneConnection, ""), `["10.2.0.0/24"]`, `["`+strings.Join(networks, `","`)+`"]`, 1)
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
			t.Errorf("%v: loaded are %v", networks, found)
		}
		return found
	}
	before := with("10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24")
	after := with("10.9.0.0/24", "10.4.0.0/24", "10.3.0.0/24")
	for _, network := range []string{"10.3.0.0/24", "10.4.0.0/24"} {
		if before[network] != after[network] {
			t.Errorf("the tunnel to %s was made anew", network)
		}
	}
}

var serial = regexp.MustCompile(`"([^"]+)":.*conn serial: (\$[0-9]+);`)

func serials(status string) map[string]string {
	found := map[string]string{}
	for _, m := range serial.FindAllStringSubmatch(status, -1) {
		found[m[1]] = m[2]
	}
	return found
}

func TestAKilledDaemonComesBackWithItsConns(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-kill")
	c.configuration = fmt.Sprintf(oneConnection, more)
	c.must("ADD")
	c.startAnew("ActiveState", "active")
	c.must("CHECK")
	contains(t, "the status", c.whack("--status"), `"first-0-0"`, `"six-0-0"`)
	sh(t, "systemctl", "stop", "svc-vpn-kill")
	c.fails("CHECK", 104, "the daemon does not run")
	c.must("ADD")
	c.must("CHECK")
}

// An edit that comes while a daemon that was started again loads its connections waits for that: it would load them over the edit.
func TestAnEditWhileTheDaemonStartsAnewIsNotLostAndCostsTheOthersNothing(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-anew")
	connections := connectionsOfPairs(16)
	c.configuration = documentOf(connections...)
	c.must("ADD")
	c.configuration = strings.Replace(c.configuration, `"10.9.15.0/24"`, `"10.99.0.0/24"`, 1)
	c.startAnew("SubState", "running")
	c.must("ADD")
	status := c.whack("--status")
	contains(t, "the edited connection", status, "===10.99.0.0/24")
	if found := serials(status); len(found) != 2048 || strings.Contains(status, "10.9.15.0/24") {
		t.Errorf("%d conns, and the one that was edited is there twice: %v", len(found), strings.Contains(status, "10.9.15.0/24"))
	}
	// The daemon's own lines: an addconn may repeat them.
	journal := tryShell("journalctl", "--no-pager", "-o", "cat", "_SYSTEMD_INVOCATION_ID="+c.property("InvocationID"), "_PID="+c.property("MainPID"))
	for _, conn := range []string{"c0-0-0", "c3-3-3", "c7-15-14"} {
		if n := strings.Count(journal, `"`+conn+`": added `); n != 1 {
			t.Errorf("conn %s was added %d times", conn, n)
		}
	}
	c.must("CHECK")
}

// A daemon that was started anew while the external address was not there has conns without an interface: ADD again mends it.
func TestConnsWithoutAnInterfaceAreMendedByADDAgain(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-bare")
	c.configuration = fmt.Sprintf(oneConnection, more)
	c.must("ADD")
	sh(t, "ip", "-n", c.name, "addr", "del", "100.100.100.2/32", "dev", "svc0")
	c.startAnew("ActiveState", "active")
	contains(t, "the status", c.whack("--status"), "unoriented")
	before := serials(c.whack("--status"))
	c.must("ADD")
	if status := c.whack("--status"); strings.Contains(status, "unoriented") {
		t.Errorf("it is not mended:\n%s", status)
	}
	if after := serials(c.whack("--status")); after["six-0-0"] != before["six-0-0"] {
		t.Error("the one with another address was added again")
	}
	c.must("CHECK")
}

func TestEveryKindOfIdentityIsWhatTheDaemonTakesItFor(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-ids")
	ids := []string{"192.0.2.77", "2001:db8::77", "vpn.example.org", "@vpn2.example.org", "@192.0.2.9", "joe.doe+x@example.org", "@#0102ff", "@[branch-7/x]",
		"C=FR, O=Example Corp., OU=R&D (main), CN=paris's", "C=FR,ST=A,L=B,O=C,OU=D,CN=a.b-c:1@d,emailAddress=joe@example.org", "DC=org,UID=joe,SN=x,S=y,G=z,N=n,I=i,T=t,D=d,ID=1,ND=2,TCGID=3,Email=a@b,unstructuredName=u", "under_score"}
	var connections []string
	for i, id := range ids {
		quoted, _ := json.Marshal(id)
		connections = append(connections, fmt.Sprintf(`{"id":"c%d","peerAddress":"198.51.100.%d","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%d.0.0/24"],"psk":"k","localId":%s,"peerId":%s}`, i, i+1, i+2, quoted, quoted))
	}
	c.configuration = `{"externalIps":["100.100.100.2"],"connections":[` + strings.Join(connections, ",") + `]}`
	c.must("ADD")
	for i, connection := range c.health().Connections {
		if connection.Reason != "" && !slices.Contains(nobody, connection.Reason) {
			t.Errorf("%s: %s", ids[i], connection.Reason)
		}
	}
	if got := len(serials(c.whack("--status"))); got != len(ids) {
		t.Errorf("%d conns are loaded, want %d", got, len(ids))
	}
}

func TestAUnitThatIsAnothersIsLeftAlone(t *testing.T) {
	onGround(t)
	c := newContainer(t, "vpn-unit")
	sh(t, "systemd-run", "--unit=svc-vpn-unit", "sleep", "600")
	defer sh(t, "systemctl", "stop", "svc-vpn-unit")
	c.fails("ADD", 101, "svc-vpn-unit.service")
	c.must("DEL")
	contains(t, "the log", c.stderr, "level=WARN", "svc-vpn-unit.service")
	if state := c.property("ActiveState"); state != "active" {
		t.Errorf("it is %s", state)
	}
}
