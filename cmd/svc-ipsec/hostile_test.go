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
	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// TestHostileConnections runs ADD for a container with one valid connection and as many hostile ones as a document may
// have, until each hostile value was used for each key of a connection. The daemon may load only the conns that package
// config accepts, and nothing on the host may change.
func TestHostileConnections(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-hostile")
	g := newReferences(t)
	connections := g.hostileConnections(t)
	filesBefore := hostFiles(t, c.name)
	c.configuration = documentOf(goodConnection(t))
	c.must("ADD")
	pid, visible, serial := c.property("MainPID"), c.visibleFiles(), serials(c.whack("--status"))["good-0-0"]
	for batch := range slices.Chunk(connections, 255) {
		c.configuration = documentOf(append(batch, goodConnection(t))...)
		clock := busyclock.Start()
		c.must("ADD")
		if took := clock.Elapsed(); took > 15*time.Second {
			t.Errorf("ADD took %s, want at most 3 s for all names, and no time for files", took)
		}
		c.requireExpectedConns(batch, g)
		if got := serials(c.whack("--status"))["good-0-0"]; got != serial || c.property("MainPID") != pid {
			t.Fatalf("the valid connection was loaded again (%s, %s)", serial, got)
		}
	}
	c.must("CHECK")
	eventually(t, "the unit has no process but the daemon", func() bool { return c.pids() == pid+"\n" })
	if got := c.visibleFiles(); got != visible {
		t.Errorf("the files that the daemon sees are %s, before %s", got, visible)
	}
	requireUnchanged(t, filesBefore, hostFiles(t, c.name))
	c.must("DEL")
	c.requireRemoved()
	requireUnchanged(t, filesBefore, hostFiles(t, c.name))
}

// goodConnection returns the connection of configtest.Full that tests do not change.
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

// notForDaemon matches the paths of keys whose values the daemon does not get. For these keys, the test uses each
// hostile value only in some of the places.
var notForDaemon = regexp.MustCompile(`\.(name|description)$|Policy\.id$`)

// references provides the files and names that the full document references. Every second hostile name is in
// /etc/hosts. For the others there is a DNS server that does not answer.
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

// at returns the path on this host for a path in the full document.
func (g *references) at(path string) string { return filepath.Join(g.dir, filepath.Base(path)) }

// found returns the expected contents and addresses for the references of a configuration.
func (g *references) found(c *config.Configuration) config.Found {
	found := config.Found{
		Files: map[string]config.File{}, Certificates: map[config.CertificateFiles]config.Certificate{},
		Names: map[string]config.Name{},
	}
	keys := lookup.OpenKeyFiles("/nonexistent")
	for _, path := range c.PSKFiles() {
		content, err := keys.Read(path, config.MaxSecret+1, true)
		found.Files[path] = config.File{Content: spec.NewSecret(content)}
		if err != nil {
			found.Files[path] = config.File{Fault: err.Error()}
		}
	}
	valid := config.CertificateFiles{Certificate: g.at("caen.pem"), PrivateKey: g.at("caen.key"), CA: g.at("ca.pem")}
	for _, files := range c.Certificates() {
		if files == valid {
			found.Certificates[files] = config.Certificate{
				Nickname: "svc-1-2", AuthBy: "rsasig", PeerCA: "%same", Digest: "d",
			}
		} else {
			found.Certificates[files] = config.Certificate{Fault: anyFault}
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

// anyFault is a placeholder for the text of a fault of certificate files, which requireExpectedConns does not compare.
const anyFault = "\u2620"

// hostileConnections returns connections of the full document in which one key has a hostile value. It omits places for
// which configtest.Few is true. Each connection has its own id, peer and network, because connections of one document
// must not conflict. Half of the hostile values that are host names become names with an address.
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
			if notForDaemon.MatchString(place.Path) && (i+j)%8 != 0 {
				continue
			}
			if place.Object && value[0] != '"' || !utf8.ValidString(value) {
				continue // not valid as a key, or the whole network configuration is refused
			}
			n := len(list)
			id, peer := fmt.Sprintf(`"c%d"`, n), fmt.Sprintf(`"198.18.%d.%d"`, n>>8, n&255)
			network := fmt.Sprintf(`"10.%d.%d.0/24"`, 10+n>>8, n&255)
			replacer := strings.NewReplacer(`"v2"`, id, `"file"`, id, `"base64"`, id, `"cert"`, id,
				`"200.200.200.2"`, peer, `"200.200.200.4"`, peer, `"200.200.200.5"`, peer,
				`"`+configtest.NamedPeer+`"`, fmt.Sprintf(`"n%d.example.org"`, n),
				`"paris.example.org"`, fmt.Sprintf(`"p%d.example.org"`, n),
				`"10.2.0.0/24"`, network, `"10.3.0.0/24"`, network, `"10.4.0.0/24"`, network, `"10.5.0.0/24"`, network,
				`"/etc/keys/`, `"`+g.dir+`/`)
			hostile := connectionsOf(t, place.With(makeUnique(place.Key, value)))[place.Connection]
			// The replacer would replace this "v2" by the id. The empty string selects IKEv2 too.
			version := strings.Replace(hostile, `"ikeVersion":"v2"`, `"ikeVersion":""`, 1)
			list = append(list, replacer.Replace(version))
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

// makeUnique appends a suffix to hostile values of 8 bytes or more that are used as pre-shared keys. test/secrets
// searches all visible output for keys of this length, and programs print texts like --config that are hostile values.
func makeUnique(key, value string) string {
	const suffix = " and a unique suffix"
	var s string
	if json.Unmarshal([]byte(value), &s) != nil {
		return value
	}
	switch b, err := base64.StdEncoding.DecodeString(s); {
	case key == "psk" && len(s) >= 8:
		return configtest.Quoted(s + suffix)
	case key == "pskBase64" && err == nil && len(b) >= 8:
		return configtest.Quoted(base64.StdEncoding.EncodeToString(append(b, suffix...)))
	case key == "pskBase64" && err != nil && len(s) >= 8:
		return configtest.Quoted(s + suffix)
	}
	return value
}

func documentOf(connections ...string) string {
	return `{"externalIps":["100.100.100.2"],"connections":[` + strings.Join(connections, ",") + `]}`
}

var updown = regexp.MustCompile(`"([^"]+)": .* my_updown=([^;]*);`)

// requireExpectedConns fails the test if the daemon does not have exactly the conns of the connections that package
// config accepts, or if one of them runs a script. The health must have the expected reason for each other connection.
func (c *container) requireExpectedConns(batch []string, g *references) {
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
			want, onlyPrefix := strings.CutSuffix(connection.Refused.Error(), anyFault)
			matches := reported.Reason == want || onlyPrefix && strings.HasPrefix(reported.Reason, want)
			if !matches || strings.Contains(reported.Reason, "root:") {
				c.t.Errorf("%.300s: the reason is %q, not %q", batch[min(i, len(batch)-1)], reported.Reason, want)
			}
			continue
		}
		if !slices.Contains([]string{"", "adminStateUp is false", waitsForPeer}, reported.Reason) {
			c.t.Errorf("%.300s: accepted, but the reason is %s", batch[min(i, len(batch)-1)], reported.Reason)
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

// pids returns the ids of the processes of the unit, one on each line.
func (c *container) pids() string {
	c.t.Helper()
	text, err := os.ReadFile("/sys/fs/cgroup" + c.property("ControlGroup") + "/cgroup.procs")
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// visibleFiles lists the files in /run and /tmp of the daemon's mount view.
func (c *container) visibleFiles() string {
	c.t.Helper()
	root := "/proc/" + c.property("MainPID") + "/root"
	found := strings.Fields(sh(c.t, "find", root+"/run/", root+"/tmp/",
		"-mindepth", "1", "-maxdepth", "1", "-printf", "%f "))
	slices.Sort(found)
	return strings.Join(found, " ")
}

// changing matches directories that this test, systemd and Go change, and logs of this test run.
var changing = regexp.MustCompile(`^/run/(systemd|log|udev|netns)$|^/var/(log/journal|lib/systemd)$|` +
	`^/root/(\.cache|\.config|go|[^/]*\.log)$`)

// hostFiles lists the files that a daemon or a script could change on the host, with mode, size and modification time.
// It omits the files of the container.
func hostFiles(t *testing.T, name string) map[string]string {
	t.Helper()
	ours := []string{
		"/run/svc-ipsec/" + name, "/run/svc-ipsec/.nss-template", "/run/svc-ipsec/.view",
		"/run/svc-ipsec/.kernel-esp-ipv4-true", "/run/svc-ipsec/.kernel-esp-ipv4-false", "/run/svc-user-ids",
		os.Getenv("GOCACHE"), os.Getenv("GOMODCACHE"),
	}
	project, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// The output of tests that run at the same time is written there.
	ours = append(ours, filepath.Join(project, "build"))
	private := regexp.MustCompile(`/systemd-private-[^/]*-svc-` + name + `\.service-[^/]*(/tmp)?$`)
	all := map[string]string{}
	for _, root := range []string{"/", "/etc", "/root", "/run", "/tmp", "/usr/local", "/usr/libexec", "/var"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil // removed meanwhile
			case (slices.Contains(ours, path) || changing.MatchString(path)) && !entry.IsDir():
				return nil
			case slices.Contains(ours, path) || changing.MatchString(path):
				return filepath.SkipDir
			case entry.IsDir() && (path == root || path == "/run/svc-ipsec" || path == "/var/tmp" ||
				private.MatchString(path)):
				return nil // the directory itself changes with the files in it, which are compared one by one
			}
			if info, err := entry.Info(); err == nil && root != "/" {
				all[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano())
			}
			if root == "/" {
				all[path] = "exists"
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
		if _, exists := after[path]; !exists {
			t.Errorf("%s was removed", path)
		}
	}
	if before["/etc/passwd"] == "" {
		t.Error("no files were compared")
	}
}

// TestHostileValuesOutsideOfConnections runs ADD for a running container, with each hostile value in each key outside
// of the connections. Only keys for free text may accept it, and nothing may change.
func TestHostileValuesOutsideOfConnections(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-outside")
	document := func(name, ip, mac string) string {
		return `{"name":` + name + `,"description":` + name + `,"externalIps":[` + ip + `],"externalMac":` + mac +
			`,"connections":[` + goodConnection(t) + `]}`
	}
	const ip, mac = `"100.100.100.2"`, `"ca:08:1a:94:29:0e"`
	good := c.port
	c.configuration = document(`"n"`, ip, mac)
	c.must("ADD")
	network := func() string {
		// A new link-local address is tentative at first.
		addresses := strings.ReplaceAll(sh(t, "ip", "-n", c.name, "addr"), " tentative", "")
		return addresses + sh(t, "ip", "-n", c.name, "route") + c.guard()
	}
	filesBefore, networkBefore := hostFiles(t, c.name), network()
	conns, pid := serials(c.whack("--status")), c.property("MainPID")
	for _, value := range configtest.Hostile() {
		for place, change := range map[string]func(){
			"name and description": func() { c.configuration = document(value, ip, mac) },
			"externalIps":          func() { c.configuration = document(`"n"`, value, mac) },
			"externalMac":          func() { c.configuration = document(`"n"`, ip, value) },
			"port.addresses": func() {
				c.port = `{"addresses":[` + value + `],"mac":"02:00:00:00:00:01","bridge":"br-test"}`
			},
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
				t.Errorf("%s %.90q: accepted", place, value)
			case failure == nil && !utf8.ValidString(value):
				t.Errorf("%s %.90q: accepted, but not valid UTF-8", place, value)
			case failure == nil:
			case free && utf8.ValidString(value):
				t.Errorf("%s %.90q: %d %s", place, value, failure.Code, failure.Msg)
			case strings.Contains(failure.Msg, "\n") || !utf8.ValidString(failure.Msg) || len(failure.Msg) > 1000:
				t.Errorf("%s %.90q: the message is %.1000q", place, value, failure.Msg)
			case failure.Code != spec.CodeDecode &&
				!(utf8.ValidString(value) && failure.Code == spec.CodeConfiguration):
				t.Errorf("%s %.90q: %d %s", place, value, failure.Code, failure.Msg)
			}
		}
	}
	if got := network(); got != networkBefore {
		t.Errorf("the network before:\n%s\nafter:\n%s", networkBefore, got)
	}
	if got := serials(c.whack("--status")); !maps.Equal(got, conns) || c.property("MainPID") != pid {
		t.Errorf("conns %v, before %v", got, conns)
	}
	eventually(t, "the unit has no process but the daemon", func() bool { return c.pids() == pid+"\n" })
	requireUnchanged(t, filesBefore, hostFiles(t, c.name))
	c.configuration, c.port = document(`"n"`, ip, mac), good
	c.must("CHECK")
}

// TestHostileEnvironmentChangesNothing runs ADD for a running container with hostile variables and a hostile port.
func TestHostileEnvironmentChangesNothing(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-env")
	c.must("ADD")
	filesBefore, status := hostFiles(t, "none"), serials(c.whack("--status"))
	valid := *c
	for _, value := range configtest.Hostile() {
		var s string
		if json.Unmarshal([]byte(value), &s) != nil || strings.Contains(s, "\x00") || !utf8.ValidString(value) {
			continue // a variable cannot have this value
		}
		for name, change := range map[string]func(){
			"CNI_CONTAINERID": func() { c.id = s },
			"CNI_IFNAME":      func() { c.iface = s },
			"CNI_NETNS":       func() { c.namespace = s },
			"port.bridge":     func() { c.port = `{"bridge":` + value + `}` },
		} {
			*c = valid
			change()
			failure, err := c.try("ADD")
			switch {
			case err != nil:
				t.Errorf("%s %.90q: %v", name, s, err)
			case failure == nil:
				t.Errorf("%s %.90q: accepted", name, s)
			case strings.Contains(failure.Msg, "\n") || failure.Code == 0 || failure.Code == spec.CodeAgain:
				t.Errorf("%s %.90q: %d %s", name, s, failure.Code, failure.Msg)
			}
		}
	}
	*c = valid
	if got := serials(c.whack("--status")); !maps.Equal(got, status) {
		t.Errorf("conns %v, before %v", got, status)
	}
	requireUnchanged(t, filesBefore, hostFiles(t, "none"))
	c.must("CHECK")
}

// TestUnusableKeyFilesDoNotBlockADD has key files that block when they are opened or read, or that are endless.
func TestUnusableKeyFilesDoNotBlockADD(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-paths")
	dir := t.TempDir()
	pipe, huge := filepath.Join(dir, "pipe"), filepath.Join(dir, "huge")
	sh(t, "mkfifo", "-m", "600", pipe)
	sh(t, "truncate", "-s", "1T", huge)
	sh(t, "chmod", "600", huge)
	paths := []string{
		pipe, huge, dir, "/dev/zero", "/dev/tty", "/proc/kmsg", "/proc/self/environ", "/proc/self/fd/0",
		"/proc/self/root", "/run/systemd/private",
	}
	var others []string
	for i, path := range paths {
		others = append(others, fmt.Sprintf(`,{"id":"key%d","peerAddress":"198.18.0.%d",
				"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%d.0.0/24"],"pskFile":%q}`, i, i, 10+i, path),
			fmt.Sprintf(`,{"id":"cert%d","peerAddress":"198.18.1.%d","peerId":"@p",
				"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%d.0.0/24"],"authMode":"certificate",
				"certificate":{"certificateFile":%q,"privateKeyFile":%[4]q,"caFile":%[4]q}}`, i, i, 100+i, path))
	}
	c.configuration = fmt.Sprintf(oneConnection, strings.Join(others, ""))
	clock := busyclock.Start()
	c.must("ADD")
	if took := clock.Elapsed(); took > 10*time.Second {
		t.Errorf("ADD took %s", took)
	}
	for i, connection := range c.health().Connections[1:] {
		key := []string{".pskFile ", ".certificate: certificateFile "}[i%2]
		want := ": allowed: "
		if paths[i/2] == "/proc/self/fd/0" {
			want = "no such file" // standard input is a pipe, and the target of the link is not a path
		}
		contains(t, connection.ID, connection.Reason, key, want)
	}
	if conns := serials(c.whack("--status")); len(conns) != 1 || conns["first-0-0"] == "" {
		t.Errorf("conns %v", conns)
	}
	c.must("CHECK")
}

// TestPeerThatIsTheGateway uses the address of the port as a peer, and as a network of a peer. The other connections
// must keep running.
func TestPeerThatIsTheGateway(t *testing.T) {
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
		if got := serials(c.whack("--status")); got["first-0-0"] == "" || got["six-0-0"] == "" ||
			got["gateway-0-0"] == "" {
			t.Errorf("%s: conns %v", ends, got)
		}
	}
}

// TestLargestDocumentIsLoadedInTime has the maximum number of pairs, and then removes one connection.
func TestLargestDocumentIsLoadedInTime(t *testing.T) {
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
		t.Errorf("%d conns, then %d; the serial of the last one is %s, then %s", len(before), len(after),
			before["c7-15-15"], after["c7-15-15"])
	}
	requireRestart(c)
}

// requireRestart kills the daemon, and waits until the next daemon has all conns.
func requireRestart(c *container) {
	c.t.Helper()
	c.must("CHECK")
	c.killDaemon("ActiveState", "active")
	eventually(c.t, "the next daemon has all conns", func() bool {
		failure, err := c.try("CHECK")
		return err == nil && failure == nil
	})
}

// connectionsOfPairs returns eight connections, each with n networks on each side.
func connectionsOfPairs(n int) (connections []string) {
	for i := range 8 {
		var local, peer []string
		for j := range n {
			local = append(local, fmt.Sprintf(`"10.1.%d.0/24"`, j))
			peer = append(peer, fmt.Sprintf(`"10.%d.%d.0/24"`, 2+i, j))
		}
		connections = append(connections, fmt.Sprintf(`{"id":"c%d","peerAddress":"198.18.0.%d",`+
			`"localCidrs":[%s],"peerCidrs":[%s],"psk":"k"}`, i, i+1, strings.Join(local, ","), strings.Join(peer, ",")))
	}
	return connections
}
