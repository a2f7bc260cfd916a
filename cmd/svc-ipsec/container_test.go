package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config/configtest"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// TestMain runs main if a test has started this test binary as the plugin, as a runtime would.
func TestMain(m *testing.M) {
	subcommands := []string{"push", "launch", "launch-load", "ctl"}
	if os.Getenv("CNI_COMMAND") != "" || os.Getenv("SVC_TEST_ABOUT") != "" ||
		len(os.Args) > 1 && slices.Contains(subcommands, os.Args[1]) {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// requireSandbox skips a test that creates namespaces and units, unless it runs in the sandbox or in the guest.
func requireSandbox(t *testing.T) {
	t.Helper()
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("requires the sandbox or the guest: SVC_TEST_GROUND=1 is not set")
	}
	if _, err := os.Stat("/run/systemd/private"); err != nil {
		t.Skip("requires systemd")
	}
}

// container holds the parameters with which a test calls the plugin for one container, and the output of the last call.
type container struct {
	t                     *testing.T
	network, name, id     string
	namespace, iface      string
	port, configuration   string
	foreign               bool
	previous, attachments string
	lastValid             string // the key lastValid, or "" for a runtime that does not send it
	executable            string // the path of the plugin, or "" for this test binary
	stdout, stderr        string
}

// oneConnection is a configuration with one connection, and a %s for additional connections.
const oneConnection = `{"externalIps":["100.100.100.2","2001:db8:1::2"],"externalMac":"ca:08:1a:94:29:0e",
	"connections":[
	{"id":"first","name":"to-paris","peerAddress":"200.200.200.2",
		"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],"psk":"the-secret-of-the-ground-test"}%s]}`

// moreConnections are two connections for oneConnection.

const moreConnections = `,{"id":"second","peerAddress":"200.200.200.2",
		"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],"psk":"the-secret-of-the-ground-test"},
	{"id":"six","peerAddress":"2001:db8:2::2",
		"localCidrs":["fd01::/64"],"peerCidrs":["fd02::/64"],"psk":"another-secret-of-the-ground-test","mtu":1400}`

// newContainer creates a network namespace, and returns a container for it with the configuration oneConnection.
// Cleanup runs DEL and removes the namespace.
func newContainer(t *testing.T, name string) *container {
	t.Helper()
	c := &container{
		t: t, network: "by-hand", name: name, id: name + "-id", namespace: "/run/netns/" + name, iface: "svc0",
		port:          `{"addresses":["169.254.0.1/30","fd00::1/126"],"mac":"02:00:00:00:00:01","bridge":"br-test"}`,
		configuration: fmt.Sprintf(oneConnection, ""),
	}
	sh(t, "ip", "netns", "add", name)
	if exec.Command("ip", "link", "show", "br-test").Run() != nil {
		sh(t, "ip", "link", "add", "br-test", "type", "bridge")
		sh(t, "ip", "link", "set", "br-test", "up")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(tryShell("journalctl", "--no-pager", "-o", "cat", "-n", "40", "-u", "svc-"+name))
		}
		_, _ = c.try("DEL")
		_ = exec.Command("ip", "netns", "del", name).Run()
	})
	return c
}

// oneEnd returns a configuration with one connection for the left or the right site. keys are members that are added to
// the connection, or that replace its members. A null value removes a member.
func oneEnd(t *testing.T, left bool, id, keys string) string {
	t.Helper()
	external, connection := "200.200.200.2", map[string]any{
		"peerAddress": "100.100.100.2", "localCidrs": []string{"10.2.0.0/24"}, "peerCidrs": []string{"10.1.0.0/24"},
		"initiator": "response-only",
	}
	if left {
		external, connection = "100.100.100.2", map[string]any{
			"peerAddress": "200.200.200.2", "localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{"10.2.0.0/24"},
		}
	}
	connection["id"], connection["psk"] = id, "a key-of-the-ground-test"
	var more map[string]any
	if err := json.Unmarshal([]byte("{"+keys+"}"), &more); err != nil {
		t.Fatalf("%s: %v", keys, err)
	}
	maps.Copy(connection, more)
	maps.DeleteFunc(connection, func(_ string, value any) bool { return value == nil })
	text, err := json.Marshal(map[string]any{"externalIps": []string{external}, "connections": []any{connection}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// conf returns the network configuration. If foreign is set, it has no key "container", as with other runtimes.
func (c *container) conf() string {
	parts := []string{
		`"cniVersion":"1.1.0"`, `"type":"svc-ipsec"`, `"name":` + configtest.Quoted(c.network),
		`"configuration":` + c.configuration,
	}
	if !c.foreign {
		parts = append(parts, fmt.Sprintf(`"container":{"portId":"p","interfaceName":%s,"containerId":%s,`+
			`"serviceType":"IPSEC","configurationId":"r"}`, configtest.Quoted(c.name), configtest.Quoted(c.id)))
	}
	if c.port != "" {
		parts = append(parts, `"port":`+c.port)
	}
	if c.previous != "" {
		parts = append(parts, `"prevResult":`+c.previous)
	}
	if c.lastValid != "" {
		parts = append(parts, `"lastValid":`+c.lastValid)
	}
	if c.attachments != "" {
		parts = append(parts, `"cni.dev/valid-attachments":`+c.attachments)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (c *container) environment(verb string) []string {
	return []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + c.id, "CNI_NETNS=" + c.namespace, "CNI_IFNAME=" + c.iface,
		"CNI_PATH=/none", "PATH=" + os.Getenv("PATH"), "LC_ALL=C",
	}
}

// try runs a verb. It returns the error object of the verb, or nil if the verb succeeds. It fails the test if the
// output contains a secret.
func (c *container) try(verb string) (*spec.Error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if c.executable != "" {
		self = c.executable
	}
	cmd := exec.Command(self)
	cmd.Env = c.environment(verb)
	cmd.Stdin = strings.NewReader(c.conf())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	c.stdout, c.stderr = stdout.String(), stderr.String()
	if strings.Contains(c.stdout+c.stderr, "of-the-ground-test") {
		c.t.Errorf("the output of %s contains a secret:\n%s%s", verb, c.stdout, c.stderr)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		failure := new(spec.Error)
		if err := json.Unmarshal(stdout.Bytes(), failure); err != nil || failure.CNIVersion == "" {
			return nil, fmt.Errorf("%s printed no error object: %q", verb, c.stdout)
		}
		return failure, nil
	}
	return nil, err
}

func (c *container) must(verb string) {
	c.t.Helper()
	failure, err := c.try(verb)
	if err != nil || failure != nil {
		c.t.Fatalf("%s %s: %v %v\n%s", verb, c.name, failure, err, c.stderr)
	}
}

func (c *container) fails(verb string, code spec.Code, want string) {
	c.t.Helper()
	failure, err := c.try(verb)
	if err != nil || failure == nil || failure.Code != code || !strings.Contains(failure.Msg, want) {
		c.t.Fatalf("%s %s: got %v %v, want code %d with %q", verb, c.name, failure, err, code, want)
	}
}

// health returns the health in the output of the last verb.
func (c *container) health() spec.Health {
	c.t.Helper()
	var result struct{ Health *spec.Health }
	if json.Unmarshal([]byte(c.stdout), &result) == nil && result.Health != nil {
		return *result.Health
	}
	var h spec.Health
	if err := json.Unmarshal([]byte(c.stdout), &h); err != nil || h.Check() != nil {
		c.t.Fatalf("no health in %q", c.stdout)
	}
	return h
}

// requireRemoved fails the test if the veth, the state directory or a unit of the container exists.
func (c *container) requireRemoved() {
	c.t.Helper()
	if out, err := exec.Command("ip", "link", "show", c.name).CombinedOutput(); err == nil {
		c.t.Errorf("the veth remains: %s", out)
	}
	if _, err := os.Stat("/run/svc-ipsec/" + c.name); err == nil {
		c.t.Error("the state directory remains")
	}
	if out := sh(c.t, "systemctl", "list-units", "--all", "--no-legend", "--plain", "svc-"+c.name+"*"); out != "" {
		c.t.Errorf("a unit remains: %s", out)
	}
}

// requirePrivateFiles fails the test if other users than root and the user id of the container have access to its
// files, or if this user id owns more than the directory run.
func (c *container) requirePrivateFiles() {
	c.t.Helper()
	directory := "/run/svc-ipsec/" + c.name
	user := strings.TrimSpace(sh(c.t, "stat", "-c", "%g", directory))
	if user == "0" {
		c.t.Error("the container has no user id")
	}
	for what, test := range map[string][]string{
		"accessible for other users":   {directory, "-perm", "/007"},
		"accessible for another group": {directory, "-perm", "/070", "!", "-group", user},
		"writable for the group":       {directory, "-perm", "/020"},
		"not owned by root": {
			directory, "!", "-user", "0", "!", "-path", directory + "/run", "!", "-path", directory + "/run/*",
		},
		"a directory that the daemon can open": {directory, "-maxdepth", "0", "-perm", "/040"},
		"another directory that all users can enter": {
			"/run/svc-ipsec", "-mindepth", "1", "-maxdepth", "1", "-perm", "/007",
		},
		"not readable for the daemon": {
			directory + "/etc", directory + "/conns", directory + "/nss", "!", "(", "-group", user, "-perm", "-040",
			")",
		},
	} {
		if out := sh(c.t, "find", append(test, "!", "-type", "s")...); out != "" {
			c.t.Errorf("%s: %s", what, out)
		}
	}
	if mode := strings.TrimSpace(sh(c.t, "stat", "-c", "%a", "/run/svc-ipsec")); mode != "711" {
		c.t.Errorf("/run/svc-ipsec has mode %s", mode)
	}
}

// namespaceOfUnit returns the path of the network namespace that the unit of the daemon enters.
func (c *container) namespaceOfUnit() string {
	_, after, _ := strings.Cut(c.property("ExecStart"), " --net=")
	path, _, _ := strings.Cut(after, " ")
	return path
}

func (c *container) property(name string) string {
	c.t.Helper()
	return strings.TrimSpace(sh(c.t, "systemctl", "show", "-P", name, "svc-"+c.name+".service"))
}

// killDaemon kills the daemon. It waits until systemd has started another one, and the property of the unit has the
// value.
func (c *container) killDaemon(property, value string) {
	c.t.Helper()
	pid := c.property("MainPID")
	sh(c.t, "kill", "-KILL", pid)
	eventually(c.t, "another daemon, "+property+"="+value, func() bool {
		return c.property("MainPID") != pid && c.property(property) == value
	})
}

// awaitConn waits until a restarted daemon has loaded a conn. The unit is active before that.
func (c *container) awaitConn(conn string) {
	c.t.Helper()
	eventually(c.t, "the conn "+conn+" is loaded", func() bool {
		return strings.Contains(c.whack("--status"), `"`+conn+`"`)
	})
}

func (c *container) whack(args ...string) string {
	c.t.Helper()
	socket := "/run/svc-ipsec/" + c.name + "/run/pluto.ctl"
	return sh(c.t, "/usr/libexec/ipsec/whack", append([]string{"--ctlsocket", socket}, args...)...)
}

// control runs `svc-ipsec ctl`, with which operators run whack with the privileges of the daemon.
func (c *container) control(args ...string) string {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	return sh(c.t, self, append([]string{"ctl", c.name}, args...)...)
}

func sh(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func tryShell(program string, args ...string) string {
	out, _ := exec.Command(program, args...).CombinedOutput()
	return string(out)
}

// eventually waits until condition is true, for at most 40 s, which is sufficient on a slow machine.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("condition not reached in 40 s: %s", what)
		}
	}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s: does not contain %q:\n%s", what, part, text)
		}
	}
}
