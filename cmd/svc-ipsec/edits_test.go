package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// siteOf returns a connection to the peer and the network with number n. keys are additional members.
func siteOf(id string, n int, keys string) string {
	return fmt.Sprintf(`{"id":%q,"peerAddress":"200.200.200.%d","localCidrs":["10.1.0.0/24"],`+
		`"peerCidrs":["10.%[2]d.0.0/24"],"psk":"k"%s}`, id, n, keys)
}

// storeLastValid stores the last valid configuration from the result of ADD for the next ADD, as the supervisor does.
func (c *container) storeLastValid() {
	c.t.Helper()
	var result struct {
		LastValid json.RawMessage `json:"lastValid"`
	}
	if err := json.Unmarshal([]byte(c.stdout), &result); err != nil {
		c.t.Fatal(err)
	}
	if c.lastValid = c.configuration; result.LastValid != nil {
		c.lastValid = string(result.LastValid)
	}
}

// recreate runs DEL and ADD, as the supervisor does after a reboot, or for a broken container.
func (c *container) recreate() {
	c.t.Helper()
	c.must("DEL")
	c.must("ADD")
}

func TestConnectionWithRefusedEditKeepsRunning(t *testing.T) {
	requireSandbox(t)
	good := documentOf(siteOf("a", 2, `,"mtu":1400`), siteOf("b", 3, ""))
	for i, edit := range []struct{ name, old, new, want string }{
		{"a misspelt key", `"peerCidrs":["10.2.0.0/24"]`, `"peerCidr":["10.2.0.0/24"]`,
			`configuration.connections[0]: unknown key "peerCidr": allowed: id, `},
		{"a value out of range", `"mtu":1400`, `"mtu":14000000`,
			`configuration.connections[0].mtu "14000000": allowed: a number from 68 to 65535`},
		{"a misspelt id key", `"id":"a"`, `"idd":"a"`, `unknown key "idd"`},
		{"a network that cannot work", `["10.2.0.0/24"]`, `["10.1.0.0/24"]`,
			`peerCidrs "10.1.0.0/24": allowed: no network that is in localCidrs too`},
		{"a key file that is not there", `"psk":"k","mtu"`, `"pskFile":"/etc/svc-supervisor/none","mtu"`,
			"no such file"},
		{"a pair that another connection has", `["10.2.0.0/24"]`, `["10.3.0.0/24"]`,
			`connection "b" carries 10.1.0.0/24 to 10.3.0.0/24 already`},
	} {
		t.Run(edit.name, func(t *testing.T) {
			c := newContainer(t, fmt.Sprintf("vpn-edit-%d", i))
			c.lastValid = "{}"
			c.configuration = good
			c.must("ADD")
			c.storeLastValid()
			before := serials(c.whack("--status"))
			keepsRunning := func(serial string) {
				t.Helper()
				h := c.health()
				contains(t, "the reason", h.Connections[0].Reason, "edit refused: ", edit.want)
				contains(t, "the message", h.Message, "edit refused: ", edit.want)
				if strings.Contains(h.Connections[1].Reason, "refused") {
					t.Errorf("the other connection: %s", h.Connections[1].Reason)
				}
				after := serials(c.whack("--status"))
				if after["a-0-0"] == "" || serial != "" && after["a-0-0"] != serial || after["b-0-0"] == "" ||
					len(after) != 2 {
					t.Errorf("conns %v, before %v", after, before)
				}
				contains(t, "the routes", sh(t, "ip", "-n", c.name, "route"),
					"10.2.0.0/24 via 169.254.0.1 dev svc0 proto 83 mtu 1400")
			}
			c.configuration = strings.Replace(good, edit.old, edit.new, 1)
			c.must("ADD")
			contains(t, "the log", c.stderr, `level=WARN msg="edit refused`, "connection=a", "reason=")
			keepsRunning(before["a-0-0"])
			c.storeLastValid()
			c.must("CHECK")
			keepsRunning(before["a-0-0"])
			c.must("ADD")
			if strings.Contains(c.stderr, "WARN") {
				t.Errorf("the refusal is logged twice: %s", c.stderr)
			}
			c.storeLastValid()

			c.recreate()
			keepsRunning("")
			c.storeLastValid()
			c.must("CHECK")

			// A valid edit of the other connection is applied. The last valid form of this connection keeps running.
			c.configuration = strings.Replace(c.configuration, `"peerAddress":"200.200.200.3"`,
				`"mtu":1300,"peerAddress":"200.200.200.3"`, 1)
			c.must("ADD")
			c.storeLastValid()
			contains(t, "the routes", sh(t, "ip", "-n", c.name, "route"),
				"10.3.0.0/24 via 169.254.0.1 dev svc0 proto 83 mtu 1300")
			keepsRunning("")

			// A connection that is removed from the configuration is removed.
			c.configuration = documentOf(siteOf("b", 3, ""))
			c.must("ADD")
			if after := serials(c.whack("--status")); len(after) != 1 || after["b-0-0"] == "" {
				t.Errorf("conns %v", after)
			}
			if message := c.health().Message; strings.Contains(message, "refused") {
				t.Errorf("message %s", message)
			}
		})
	}
}

func TestContainerWithRefusedConfigurationKeepsRunning(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-whole")
	c.lastValid = "{}"
	c.configuration = documentOf(siteOf("a", 2, ""))
	c.must("ADD")
	c.storeLastValid()
	before := serials(c.whack("--status"))
	c.configuration = strings.Replace(c.configuration, `"connections"`, `"conections"`, 1)
	for _, verb := range []string{"ADD", "CHECK", "ADD"} {
		c.must(verb)
		contains(t, "the message", c.health().Message,
			`edit refused: configuration: unknown key "conections": allowed: `)
		if verb == "ADD" {
			c.storeLastValid()
		}
	}
	if after := serials(c.whack("--status")); after["a-0-0"] == "" || after["a-0-0"] != before["a-0-0"] {
		t.Errorf("conns %v, before %v", after, before)
	}
	c.recreate()
	contains(t, "the conns", c.whack("--status"), "a-0-0")
	contains(t, "the message", c.health().Message, `edit refused: configuration: unknown key "conections"`)

	other := newContainer(t, "vpn-never")
	other.lastValid, other.configuration = "{}", c.configuration
	other.fails("ADD", 7, "conections")
	other.requireRemoved()
}

func TestInvalidNewConnectionIsRefused(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-new")
	c.lastValid = "{}"
	c.configuration = documentOf(siteOf("a", 2, `,"ikePolicy":{"lifetime":1}`), siteOf("b", 3, ""))
	for range 2 { // the second ADD gets the last valid configuration of the first one
		c.must("ADD")
		c.storeLastValid()
		contains(t, "the reason", c.health().Connections[0].Reason,
			`ikePolicy.lifetime "1": allowed: a number from 60 to 86400`)
		if strings.Contains(c.health().Connections[0].Reason, "edit refused") {
			t.Error("the connection was not edited")
		}
		if conns := serials(c.whack("--status")); len(conns) != 1 {
			t.Errorf("conns %v", conns)
		}
		c.must("CHECK")
	}
}

// TestToleratedConnectionRunsWithWarning has a connection that release 0.1.0 accepted and that this release refuses. It
// must keep running with a warning, also after a reboot, until it is edited.
func TestToleratedConnectionRunsWithWarning(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-older")
	short := documentOf(siteOf("a", 2, `,"ikePolicy":{"lifetime":30}`), siteOf("b", 3, ""))
	runsOn := func(verb string) {
		t.Helper()
		c.must(verb)
		contains(t, "the conns", c.whack("--status"), "a-0-0", "b-0-0")
		contains(t, "the message", c.health().Message, `the next release refuses `+
			`configuration.connections[0].ikePolicy.lifetime "30": allowed: a number from 60 to 86400`)
	}
	// The record of a supervisor of release 0.1.0 contains this configuration.
	c.lastValid, c.configuration = short, short
	runsOn("ADD")
	contains(t, "the log", c.stderr, "level=WARN", "ikePolicy.lifetime")
	c.storeLastValid()
	runsOn("CHECK")
	runsOn("ADD")
	c.must("DEL")
	runsOn("ADD")
	c.storeLastValid()

	// An edit of another key is accepted. An edit to another invalid value is refused.
	c.configuration = strings.Replace(short, `"ikePolicy"`, `"mtu":1400,"ikePolicy"`, 1)
	runsOn("ADD")
	c.storeLastValid()
	c.configuration = strings.Replace(c.configuration, `"lifetime":30`, `"lifetime":20`, 1)
	runsOn("ADD")
	contains(t, "the reason", c.health().Connections[0].Reason,
		`edit refused: configuration.connections[0].ikePolicy.lifetime "20"`)

	// With a runtime that does not send lastValid, svc-ipsec reads the tolerated faults from the state of the
	// container.
	c.lastValid, c.configuration = "", short
	runsOn("ADD")
	c.configuration = documentOf(siteOf("b", 3, ""))
	c.must("ADD")
	c.configuration = short
	c.must("ADD")
	contains(t, "the reason", c.health().Connections[0].Reason, "from 60 to")
}

// TestOnlyRuntimesThatSendLastValidGetIt ensures that the result of ADD contains no secrets for a runtime that does not
// store the last valid configuration.
func TestOnlyRuntimesThatSendLastValidGetIt(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-kept")
	c.configuration = documentOf(siteOf("a", 2, `,"mtu":1`), siteOf("b", 3, ""))
	c.must("ADD")
	if strings.Contains(c.stdout, "lastValid") {
		t.Error(c.stdout)
	}
	c.lastValid = "{}"
	c.must("ADD")
	contains(t, "the result", c.stdout, `"lastValid":{`)
	info, err := os.Stat("/run/svc-ipsec/vpn-kept/state.json")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}
