package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// TestHostileConnectionsLoadNothingButWhatIsExpected gives a container one good connection and hostile ones beside it,
// as many as a document takes, again and again until each hostile value was in each key of a connection.
func TestHostileConnectionsLoadNothingButWhatIsExpected(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-hostile")
	g := newReferences(t)
	connections := g.hostileConnections(t)
	world := hostFiles(t, c.name)
	c.configuration = documentOf(goodConnection(t))
	c.must("ADD")
	pid, view, serial := c.property("MainPID"), c.visibleFiles(), serials(c.whack("--status"))["good-0-0"]
	for batch := range slices.Chunk(connections, 255) {
		c.configuration = documentOf(append(batch, goodConnection(t))...)
		began := time.Now()
		c.must("ADD")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("ADD took %s: names have 3 seconds together, and no file is waited for", took)
		}
		c.onlyExpected(batch, g)
		if got := serials(c.whack("--status"))["good-0-0"]; got != serial || c.property("MainPID") != pid {
			t.Fatalf("the good connection was added again (%s, %s)", serial, got)
		}
	}
	c.must("CHECK")
	eventually(t, "nothing but the daemon in the unit", func() bool { return c.pids() == pid+"\n" })
	if got := c.visibleFiles(); got != view {
		t.Errorf("the daemon sees %s, and saw %s", got, view)
	}
	requireUnchanged(t, world, hostFiles(t, c.name))
	c.must("DEL")
	c.requireRemoved()
	requireUnchanged(t, world, hostFiles(t, c.name))
}

// goodConnection is the one of the full document that is never touched.
func goodConnection(t *testing.T) string {
	t.Helper()
	connections := connectionsOf(t, []byte(configtest.Full))
	return connections[len(connections)-1]
}

func connectionsOf(t *testing.T, document []byte) (list []string) {
	t.Helper()
	var read struct{ Connections []json.RawMessage }
	if err := json.Unmarshal(document, &read); err != nil {
		t.Fatal(err)
	}
	for _, raw := range read.Connections {
		list = append(list, string(raw))
	}
	return list
}

// unseen are the keys that the daemon hears nothing of. Each value is in some of them.
var unseen = regexp.MustCompile(`\.(name|description)$|Policy\.id$`)

// grounds are what the full document points at, on this host: files, and names of which every other one is known. For
// the others there is a server that does not answer.
type references struct {
	*authority
	known map[string]netip.Addr
}

func newReferences(t *testing.T) *references {
	t.Helper()
	g := &references{newAuthority(t, "ca", nil), map[string]netip.Addr{}}
	g.issue("caen", newKey(t, "rsa"), time.Now().Add(time.Hour), g.authority)
	if err := os.WriteFile(g.at(configtest.PSKFile), []byte("the key in the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	silentDNS(t)
	return g
}

// at is where a file of the full document is here.
func (g *references) at(path string) string { return filepath.Join(g.dir, filepath.Base(path)) }

// found is what ADD finds of what a configuration points at.
func (g *references) found(c *config.Configuration) config.Found {
	found := config.Found{Files: map[string]config.File{}, Certificates: map[config.CertificateFiles]config.Certificate{}, Names: map[string]config.Name{}}
	keys := lookup.OpenKeyFiles("/nonexistent")
	for _, path := range c.PSKFiles() {
		content, err := keys.Read(path, config.MaxSecret+1, true)
		found.Files[path] = config.File{Content: spec.NewSecret(content)}
		if err != nil {
			found.Files[path] = config.File{Fault: err.Error()}
		}
	}
	for _, files := range c.Certificates() {
		if files == (config.CertificateFiles{Certificate: g.at("caen.pem"), PrivateKey: g.at("caen.key"), CA: g.at("ca.pem")}) {
			found.Certificates[files] = config.Certificate{Nickname: "svc-1-2", AuthBy: "rsasig", PeerCA: "%same", Digest: "d"}
		} else {
			found.Certificates[files] = config.Certificate{Fault: unread}
		}
	}
	for _, name := range c.PeerNames() {
		found.Names[name] = config.Name{Address: g.known[name]}
		if !g.known[name].IsValid() {
			found.Names[name] = config.Name{Fault: "no answer from DNS"}
		}
	}
	return found
}

// unread stands for the words of a fault of certificates' files.
const unread = "\u2620"

// hostileConnections are the connections of the full document with a hostile value in a key that is none of a
// connection's before it, each with an id, a peer and a key of its own: the daemon could not tell them apart otherwise.
// What is a host name among the values becomes known here, or not.
func (g *references) hostileConnections(t *testing.T) (list []string) {
	t.Helper()
	places := configtest.Places(configtest.Full)
	lines := ""
	know := func(name string, n int) {
		g.known[name] = netip.AddrFrom4([4]byte{198, 19, byte(n >> 8), byte(n)})
		lines += g.known[name].String() + " " + name + "\n"
	}
	for i, place := range places {
		if place.Connection < 0 || configtest.Few(places, i) {
			continue
		}
		for j, value := range configtest.Hostile() {
			if unseen.MatchString(place.Path) && (i+j)%8 != 0 {
				continue
			}
			if place.Object && value[0] != '"' || !utf8.ValidString(value) {
				continue // no key; refused with all of the conf
			}
			n := len(list)
			id, peer, network := fmt.Sprintf(`"c%d"`, n), fmt.Sprintf(`"198.18.%d.%d"`, n>>8, n&255), fmt.Sprintf(`"10.%d.%d.0/24"`, 10+n>>8, n&255)
			own := strings.NewReplacer(`"v2"`, id, `"file"`, id, `"base64"`, id, `"cert"`, id,
				`"200.200.200.2"`, peer, `"200.200.200.4"`, peer, `"200.200.200.5"`, peer, `"`+configtest.NamedPeer+`"`, fmt.Sprintf(`"n%d.example.org"`, n),
				`"paris.example.org"`, fmt.Sprintf(`"p%d.example.org"`, n), `"10.2.0.0/24"`, network, `"10.3.0.0/24"`, network, `"10.4.0.0/24"`, network, `"10.5.0.0/24"`, network,
				`"/etc/keys/`, `"`+g.dir+`/`)
			hostile := connectionsOf(t, place.With(unlike(place.Key, value)))[place.Connection]
			// The version of IKE is v2 too.
			version := strings.Replace(hostile, `"ikeVersion":"v2"`, `"ikeVersion":""`, 1)
			list = append(list, own.Replace(version))
			know(fmt.Sprintf("n%d.example.org", n), n)
			read, err := config.Decode(json.RawMessage(documentOf(list[n])))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range read.PeerNames() {
				if _, ours := g.known[name]; !ours && place.Key == "peerAddress" && j%2 == 0 {
					know(name, n)
				}
			}
		}
	}
	hosts(t, lines)
	return list
}

// unlike is a hostile value with more at its end where it would be a key that programs, and other tests, say anyway,
// such as --config: test/secrets looks for each key of 8 bytes or more in all that can be seen.
func unlike(key, value string) string {
	const more = " and what nobody says"
	var s string
	if json.Unmarshal([]byte(value), &s) != nil {
		return value
	}
	switch b, err := base64.StdEncoding.DecodeString(s); {
	case key == "psk" && len(s) >= 8:
		return configtest.Quoted(s + more)
	case key == "pskBase64" && err == nil && len(b) >= 8:
		return configtest.Quoted(base64.StdEncoding.EncodeToString(append(b, more...)))
	case key == "pskBase64" && err != nil && len(s) >= 8:
		return configtest.Quoted(s + more)
	}
	return value
}

func documentOf(connections ...string) string {
	return `{"externalIps":["100.100.100.2"],"connections":[` + strings.Join(connections, ",") + `]}`
}

var updown = regexp.MustCompile(`"([^"]+)": .* my_updown=([^;]*);`)

// onlyExpected wants the daemon to have the conns of those connections that package config takes, no others, none of
// them with a script; and a reason for each of the others.
func (c *container) onlyExpected(batch []string, g *references) {
	c.t.Helper()
	read, err := config.Decode(json.RawMessage(c.configuration))
	if err != nil {
		c.t.Fatal(err)
	}
	read.Found = g.found(read)
	read.Resolve(func(c *config.Connection) config.Standing {
		if c.ID == configtest.Good {
			return config.Unchanged
		}
		return config.New
	})
	var want []string
	for i, connection := range read.Connections {
		reported := c.health().Connections[i]
		if connection.Refused != nil {
			want, anyOf := strings.CutSuffix(connection.Refused.Error(), unread)
			if reported.Reason != want && !(anyOf && strings.HasPrefix(reported.Reason, want)) || strings.Contains(reported.Reason, "root:") {
				c.t.Errorf("%.300s: the reason is %q, not %q", batch[min(i, len(batch)-1)], reported.Reason, want)
			}
			continue
		}
		if reported.Reason != "" && reported.Reason != "adminStateUp is false" {
			c.t.Errorf("%.300s: taken, and then: %s", batch[min(i, len(batch)-1)], reported.Reason)
		}
		for _, pair := range connection.Pairs() {
			if connection.Up {
				want = append(want, pair.Conn)
			}
		}
	}
	scripts := map[string]string{}
	for _, m := range updown.FindAllStringSubmatch(c.whack("--status"), -1) {
		scripts[m[1]] = m[2]
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(scripts)); !slices.Equal(got, want) {
		c.t.Errorf("the daemon has %d conns, not %d:\n%v\n%v", len(got), len(want), got, want)
	}
	for conn, script := range scripts {
		if script != "<disabled>" {
			c.t.Errorf("conn %s runs %s", conn, script)
		}
	}
}

// pids are the processes of the unit, one a line.
func (c *container) pids() string {
	c.t.Helper()
	text, err := os.ReadFile("/sys/fs/cgroup" + c.property("ControlGroup") + "/cgroup.procs")
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// view lists what is in the daemon's own /run and /tmp, which nobody else sees.
func (c *container) visibleFiles() string {
	c.t.Helper()
	root := "/proc/" + c.property("MainPID") + "/root"
	found := strings.Fields(sh(c.t, "find", root+"/run/", root+"/tmp/", "-mindepth", "1", "-maxdepth", "1", "-printf", "%f "))
	slices.Sort(found)
	return strings.Join(found, " ")
}

// Where this test itself, systemd and Go are at work, or a log of this test run can be.
var busy = regexp.MustCompile(`^/run/(systemd|log|udev|netns)$|^/var/(log/journal|lib/systemd)$|^/root/(\.cache|\.config|go|[^/]*\.log)$`)

// files lists what a daemon or a script could change on the host, each file with its mode, size and time of change: all
// of it but what is the container's.
func hostFiles(t *testing.T, name string) map[string]string {
	t.Helper()
	ours := []string{"/run/svc-ipsec/" + name, "/run/svc-ipsec/.nss-template", "/run/svc-ipsec/.view",
		"/run/svc-ipsec/.kernel-esp-ipv4-true", "/run/svc-ipsec/.kernel-esp-ipv4-false", "/run/svc-user-ids", os.Getenv("GOCACHE"), os.Getenv("GOMODCACHE")}
	project, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	ours = append(ours, filepath.Join(project, "build")) // other tests run beside these, and their output is written there
	private := regexp.MustCompile(`/systemd-private-[^/]*-svc-` + name + `\.service-[^/]*(/tmp)?$`)
	all := map[string]string{}
	for _, root := range []string{"/", "/etc", "/root", "/run", "/tmp", "/usr/local", "/usr/libexec", "/var"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil // gone meanwhile
			case (slices.Contains(ours, path) || busy.MatchString(path)) && !entry.IsDir():
				return nil
			case slices.Contains(ours, path) || busy.MatchString(path):
				return filepath.SkipDir
			case entry.IsDir() && (path == root || path == "/run/svc-ipsec" || path == "/var/tmp" || private.MatchString(path)):
				return nil // others come and go in it; each is looked at
			}
			if info, err := entry.Info(); err == nil && root != "/" {
				all[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano())
			}
			if root == "/" {
				all[path] = "there"
				if entry.IsDir() {
					return filepath.SkipDir
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func requireUnchanged(t *testing.T, before, after map[string]string) {
	t.Helper()
	for path := range after {
		if before[path] != after[path] {
			t.Errorf("%s was %q and is %q", path, before[path], after[path])
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			t.Errorf("%s is gone", path)
		}
	}
	if before["/etc/passwd"] == "" {
		t.Error("nothing was looked at")
	}
}

// TestHostileValuesOutsideOfTheConnectionsChangeNothing calls ADD for a container that runs with each hostile value in
// each place that is none of a connection's. What is free text is taken; nothing else is.
func TestHostileValuesOutsideOfTheConnectionsChangeNothing(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-outside")
	document := func(name, ip, mac string) string {
		return `{"name":` + name + `,"description":` + name + `,"externalIps":[` + ip + `],"externalMac":` + mac + `,"connections":[` + goodConnection(t) + `]}`
	}
	const ip, mac = `"100.100.100.2"`, `"ca:08:1a:94:29:0e"`
	good := c.port
	c.configuration = document(`"n"`, ip, mac)
	c.must("ADD")
	network := func() string {
		addresses := strings.ReplaceAll(sh(t, "ip", "-n", c.name, "addr"), " tentative", "") // the kernel's own, at first
		return addresses + sh(t, "ip", "-n", c.name, "route") + c.guard()
	}
	world, runs, conns, pid := hostFiles(t, c.name), network(), serials(c.whack("--status")), c.property("MainPID")
	for _, value := range configtest.Hostile() {
		for place, change := range map[string]func(){
			"name and description": func() { c.configuration = document(value, ip, mac) },
			"externalIps":          func() { c.configuration = document(`"n"`, value, mac) },
			"externalMac":          func() { c.configuration = document(`"n"`, ip, value) },
			"port.addresses":       func() { c.port = `{"addresses":[` + value + `],"mac":"02:00:00:00:00:01","bridge":"br-test"}` },
			"port.mac": func() {
				c.port = `{"addresses":["169.254.0.1/30","fd00::1/126"],"mac":` + value + `,"bridge":"br-test"}`
			},
		} {
			c.configuration, c.port = document(`"n"`, ip, mac), good
			change()
			failure, err := c.try("ADD")
			var text string
			free := place == "name and description" && json.Unmarshal([]byte(value), &text) == nil && len(text) <= 1024
			switch {
			case err != nil:
				t.Errorf("%s %.90q: %v", place, value, err)
			case failure == nil && !free:
				t.Errorf("%s %.90q: taken", place, value)
			case failure == nil && !utf8.ValidString(value):
				t.Errorf("%s %.90q: taken, and is no UTF-8", place, value)
			case failure == nil:
			case free && utf8.ValidString(value):
				t.Errorf("%s %.90q: %d %s", place, value, failure.Code, failure.Msg)
			case strings.Contains(failure.Msg, "\n") || !utf8.ValidString(failure.Msg) || len(failure.Msg) > 1000:
				t.Errorf("%s %.90q: says %.1000q", place, value, failure.Msg)
			case utf8.ValidString(value) && failure.Code != spec.CodeDecode && failure.Code != spec.CodeConfiguration || !utf8.ValidString(value) && failure.Code != spec.CodeDecode:
				t.Errorf("%s %.90q: %d %s", place, value, failure.Code, failure.Msg)
			}
		}
	}
	if got := network(); got != runs {
		t.Errorf("it was:\n%s\nand is:\n%s", runs, got)
	}
	if got := serials(c.whack("--status")); !maps.Equal(got, conns) || c.property("MainPID") != pid {
		t.Errorf("conns %v, before %v", got, conns)
	}
	eventually(t, "nothing but the daemon in the unit", func() bool { return c.pids() == pid+"\n" })
	requireUnchanged(t, world, hostFiles(t, c.name))
	c.configuration, c.port = document(`"n"`, ip, mac), good
	c.must("CHECK")
}

// TestAHostileEnvironmentChangesNothing calls ADD for a container that runs with hostile variables and a hostile port.
func TestAHostileEnvironmentChangesNothing(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-env")
	c.must("ADD")
	world, status := hostFiles(t, "none"), serials(c.whack("--status"))
	whole := *c
	for _, value := range configtest.Hostile() {
		var s string
		if json.Unmarshal([]byte(value), &s) != nil || strings.Contains(s, "\x00") || !utf8.ValidString(value) {
			continue // no variable can hold it
		}
		for name, change := range map[string]func(){
			"CNI_CONTAINERID": func() { c.id = s },
			"CNI_IFNAME":      func() { c.iface = s },
			"CNI_NETNS":       func() { c.namespace = s },
			"port.bridge":     func() { c.port = `{"bridge":` + value + `}` },
		} {
			*c = whole
			change()
			failure, err := c.try("ADD")
			switch {
			case err != nil:
				t.Errorf("%s %.90q: %v", name, s, err)
			case failure == nil:
				t.Errorf("%s %.90q: taken", name, s)
			case strings.Contains(failure.Msg, "\n") || failure.Code == 0 || failure.Code == spec.CodeAgain:
				t.Errorf("%s %.90q: %d %s", name, s, failure.Code, failure.Msg)
			}
		}
	}
	*c = whole
	if got := serials(c.whack("--status")); !maps.Equal(got, status) {
		t.Errorf("conns %v, before %v", got, status)
	}
	requireUnchanged(t, world, hostFiles(t, "none"))
	c.must("CHECK")
}

// TestAPathToWhatIsNoKeyHoldsNothingUp is of what waits when it is opened or read, or has no end.
func TestAPathToWhatIsNoKeyHoldsNothingUp(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-paths")
	dir := t.TempDir()
	pipe, huge := filepath.Join(dir, "pipe"), filepath.Join(dir, "huge")
	sh(t, "mkfifo", "-m", "600", pipe)
	sh(t, "truncate", "-s", "1T", huge)
	sh(t, "chmod", "600", huge)
	paths := []string{pipe, huge, dir, "/dev/zero", "/dev/tty", "/proc/kmsg", "/proc/self/environ", "/proc/self/fd/0", "/proc/self/root", "/run/systemd/private"}
	var others []string
	for i, path := range paths {
		others = append(others, fmt.Sprintf(`,{"id":"key%d","peerAddress":"198.18.0.%d","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%d.0.0/24"],"pskFile":%q}`, i, i, 10+i, path),
			fmt.Sprintf(`,{"id":"cert%d","peerAddress":"198.18.1.%d","peerId":"@p","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%d.0.0/24"],"authMode":"certificate",
				"certificate":{"certificateFile":%q,"privateKeyFile":%[4]q,"caFile":%[4]q}}`, i, i, 100+i, path))
	}
	c.configuration = fmt.Sprintf(oneConnection, strings.Join(others, ""))
	began := time.Now()
	c.must("ADD")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("ADD took %s", took)
	}
	for i, connection := range c.health().Connections[1:] {
		key := []string{".pskFile ", ".certificate: certificateFile "}[i%2]
		want := ": allowed: "
		if paths[i/2] == "/proc/self/fd/0" {
			want = "no such file" // the text of that link, a pipe's, leads nowhere
		}
		contains(t, connection.ID, connection.Reason, key, want)
	}
	if conns := serials(c.whack("--status")); len(conns) != 1 || conns["first-0-0"] == "" {
		t.Errorf("conns %v", conns)
	}
	c.must("CHECK")
}

// TestAPeerThatIsTheGatewayCostsNoOther names the port's own address as a peer, and as a network behind one.
func TestAPeerThatIsTheGatewayCostsNoOther(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-gateway")
	for _, ends := range []string{
		`"peerAddress":"fd00::1","localCidrs":["fd01::/64"],"peerCidrs":["fd05::/64"]`,
		`"peerAddress":"2001:db8:2::7","localCidrs":["fd01::/64"],"peerCidrs":["fd00::/127"]`,
		`"peerAddress":"169.254.0.1","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.5.0.0/24"]`,
		`"peerAddress":"200.200.200.7","localCidrs":["10.1.0.0/24"],"peerCidrs":["169.254.0.1/32"]`,
	} {
		c.configuration = fmt.Sprintf(oneConnection, moreConnections+`,{"id":"gateway",`+ends+`,"psk":"k"}`)
		c.must("ADD")
		c.must("CHECK")
		if got := serials(c.whack("--status")); got["first-0-0"] == "" || got["six-0-0"] == "" || got["gateway-0-0"] == "" {
			t.Errorf("%s: conns %v", ends, got)
		}
	}
}

// TestTheLargestDocumentIsDoneInTime has as many pairs as the connections of a container may have, and loses one.
func TestTheLargestDocumentIsDoneInTime(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-large")
	connections := connectionsOfPairs(16)
	c.configuration = documentOf(connections...)
	c.must("ADD")
	c.must("CHECK")
	before := serials(c.whack("--status"))
	c.configuration = documentOf(connections[1:]...)
	c.must("ADD")
	after := serials(c.whack("--status"))
	if len(before) != 2048 || len(after) != 2048-256 || after["c7-15-15"] != before["c7-15-15"] {
		t.Errorf("%d conns, then %d; %s of the last one, then %s", len(before), len(after), before["c7-15-15"], after["c7-15-15"])
	}
	requireRestart(c)
}

// requireRestart kills the daemon, and wants all of its conns in the next one.
func requireRestart(c *container) {
	c.t.Helper()
	c.must("CHECK")
	c.killDaemon("ActiveState", "active")
	eventually(c.t, "that has all conns", func() bool {
		failure, err := c.try("CHECK")
		return err == nil && failure == nil
	})
}

// connectionsOfPairs are eight connections, each of that many networks on either side.
func connectionsOfPairs(n int) (connections []string) {
	for i := range 8 {
		var local, peer []string
		for j := range n {
			local = append(local, fmt.Sprintf(`"10.1.%d.0/24"`, j))
			peer = append(peer, fmt.Sprintf(`"10.%d.%d.0/24"`, 2+i, j))
		}
		connections = append(connections, fmt.Sprintf(`{"id":"c%d","peerAddress":"198.18.0.%d","localCidrs":[%s],"peerCidrs":[%s],"psk":"k"}`, i, i+1,
			strings.Join(local, ","), strings.Join(peer, ",")))
	}
	return connections
}
