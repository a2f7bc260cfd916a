package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// siteOf is a connection to a peer of its own; keys are others that it has.
func siteOf(id string, n int, keys string) string {
	return fmt.Sprintf(`{"id":%q,"peerAddress":"200.200.200.%d","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.%[2]d.0.0/24"],"psk":"k"%s}`, id, n, keys)
}

// storeLastValid makes the last valid configuration that ADD returned the one that the next ADD gets, as the supervisor
// does.
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

// recreate is a container after a reboot, or after it was healed.
func (c *container) recreate() {
	c.t.Helper()
	c.must("DEL")
	c.must("ADD")
}

func TestAConnectionWhoseEditIsRefusedGoesOn(t *testing.T) {
	requireSandbox(t)
	good := documentOf(siteOf("a", 2, `,"mtu":1400`), siteOf("b", 3, ""))
	for i, edit := range []struct{ name, old, new, want string }{
		{"a misspelt key", `"peerCidrs":["10.2.0.0/24"]`, `"peerCidr":["10.2.0.0/24"]`, `configuration.connections[0]: unknown key "peerCidr": allowed: id, `},
		{"a value out of range", `"mtu":1400`, `"mtu":14000000`, `configuration.connections[0].mtu "14000000": allowed: a number from 68 to 65535`},
		{"a misspelt id key", `"id":"a"`, `"idd":"a"`, `unknown key "idd"`},
		{"a network that cannot work", `["10.2.0.0/24"]`, `["10.1.0.0/24"]`, `peerCidrs "10.1.0.0/24": allowed: no network that is in localCidrs too`},
		{"a key file that is not there", `"psk":"k","mtu"`, `"pskFile":"/etc/svc-supervisor/none","mtu"`, "no such file"},
		{"a pair that another connection has", `["10.2.0.0/24"]`, `["10.3.0.0/24"]`, `connection "b" carries 10.1.0.0/24 to 10.3.0.0/24 already`},
	} {
		t.Run(edit.name, func(t *testing.T) {
			c := newContainer(t, fmt.Sprintf("vpn-edit-%d", i))
			c.lastValid = "{}"
			c.configuration = good
			c.must("ADD")
			c.storeLastValid()
			before := serials(c.whack("--status"))
			goesOn := func(serial string) {
				t.Helper()
				h := c.health()
				contains(t, "the reason", h.Connections[0].Reason, "edit refused: ", edit.want)
				contains(t, "the message", h.Message, "edit refused: ", edit.want)
				if strings.Contains(h.Connections[1].Reason, "refused") {
					t.Errorf("the other connection: %s", h.Connections[1].Reason)
				}
				if after := serials(c.whack("--status")); after["a-0-0"] == "" || serial != "" && after["a-0-0"] != serial || after["b-0-0"] == "" || len(after) != 2 {
					t.Errorf("conns %v, before %v", after, before)
				}
				contains(t, "the routes", sh(t, "ip", "-n", c.name, "route"), "10.2.0.0/24 via 169.254.0.1 dev svc0 proto 83 mtu 1400")
			}
			c.configuration = strings.Replace(good, edit.old, edit.new, 1)
			c.must("ADD")
			contains(t, "the log", c.stderr, `level=WARN msg="edit refused`, "connection=a", "reason=")
			goesOn(before["a-0-0"])
			c.storeLastValid()
			c.must("CHECK")
			goesOn(before["a-0-0"])
			c.must("ADD")
			if strings.Contains(c.stderr, "WARN") {
				t.Errorf("it is logged twice: %s", c.stderr)
			}
			c.storeLastValid()

			c.recreate()
			goesOn("")
			c.storeLastValid()
			c.must("CHECK")

			// An edit of another connection is made, and the last valid form of this one stays.
			c.configuration = strings.Replace(c.configuration, `"peerAddress":"200.200.200.3"`, `"mtu":1300,"peerAddress":"200.200.200.3"`, 1)
			c.must("ADD")
			c.storeLastValid()
			contains(t, "the routes", sh(t, "ip", "-n", c.name, "route"), "10.3.0.0/24 via 169.254.0.1 dev svc0 proto 83 mtu 1300")
			goesOn("")

			// One that is removed is removed.
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

func TestAContainerWhoseConfigurationIsRefusedAsAWholeGoesOn(t *testing.T) {
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
		contains(t, "the message", c.health().Message, `edit refused: configuration: unknown key "conections": allowed: `)
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

func TestAConnectionThatNeverRanIsRefusedWithTheReason(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-new")
	c.lastValid = "{}"
	c.configuration = documentOf(siteOf("a", 2, `,"ikePolicy":{"lifetime":1}`), siteOf("b", 3, ""))
	for range 2 { // the second one is handed what the first one returned
		c.must("ADD")
		c.storeLastValid()
		contains(t, "the reason", c.health().Connections[0].Reason, `ikePolicy.lifetime "1": allowed: a number from 60 to 86400`)
		if strings.Contains(c.health().Connections[0].Reason, "edit refused") {
			t.Error("nothing of it was edited")
		}
		if conns := serials(c.whack("--status")); len(conns) != 1 {
			t.Errorf("conns %v", conns)
		}
		c.must("CHECK")
	}
}

// Release 0.1.0 accepted what this one refuses: it runs on with a warning, also after a reboot, until it is edited to
// something valid.
func TestWhatAnEarlierReleaseAcceptedRunsOnWithAWarning(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-older")
	short := documentOf(siteOf("a", 2, `,"ikePolicy":{"lifetime":30}`), siteOf("b", 3, ""))
	runsOn := func(verb string) {
		t.Helper()
		c.must(verb)
		contains(t, "the conns", c.whack("--status"), "a-0-0", "b-0-0")
		contains(t, "the message", c.health().Message, `the next release refuses configuration.connections[0].ikePolicy.lifetime "30": allowed: a number from 60 to 86400`)
	}
	// As the record of a supervisor of 0.1.0 has it.
	c.lastValid, c.configuration = short, short
	runsOn("ADD")
	contains(t, "the log", c.stderr, "level=WARN", "ikePolicy.lifetime")
	c.storeLastValid()
	runsOn("CHECK")
	runsOn("ADD")
	c.must("DEL")
	runsOn("ADD")
	c.storeLastValid()

	// Another edit of it does not matter; a new fault does.
	c.configuration = strings.Replace(short, `"ikePolicy"`, `"mtu":1400,"ikePolicy"`, 1)
	runsOn("ADD")
	c.storeLastValid()
	c.configuration = strings.Replace(c.configuration, `"lifetime":30`, `"lifetime":20`, 1)
	runsOn("ADD")
	contains(t, "the reason", c.health().Connections[0].Reason, `edit refused: configuration.connections[0].ikePolicy.lifetime "20"`)

	// Without the supervisor, the state of the container tells what was accepted.
	c.lastValid, c.configuration = "", short
	runsOn("ADD")
	c.configuration = documentOf(siteOf("b", 3, ""))
	c.must("ADD")
	c.configuration = short
	c.must("ADD")
	contains(t, "the reason", c.health().Connections[0].Reason, "from 60 to")
}

// A runtime that does not keep the last valid configuration gets no secrets in the result of ADD.
func TestOnlyARuntimeThatKeepsTheLastValidConfigurationGetsIt(t *testing.T) {
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
