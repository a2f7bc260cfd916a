package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// oldFiles are the files of release 0.1.0 in the order in which ADD removes them.
var oldFiles = []string{
	"attachment.json", "conf.json", "found.json", "refused.json", "ran.json", "retry.json", "guard.nft", "imported",
	"push.json",
}

// directory returns the path of the container's state directory.
func (c *container) directory() string { return "/run/svc-ipsec/" + c.name }

// sections returns the members of state.json.
func (c *container) sections() map[string]json.RawMessage {
	c.t.Helper()
	text, err := os.ReadFile(c.directory() + "/state.json")
	sections := map[string]json.RawMessage{}
	if err == nil {
		err = json.Unmarshal(text, &sections)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return sections
}

// makeOld replaces state.json by the corresponding files of release 0.1.0.
func (c *container) makeOld() {
	c.t.Helper()
	state := c.sections()
	withVersion := func(section json.RawMessage) string {
		fields := map[string]json.RawMessage{}
		if err := json.Unmarshal(section, &fields); err != nil {
			c.t.Fatal(err)
		}
		fields["version"] = json.RawMessage("1")
		text, err := json.Marshal(fields)
		if err != nil {
			c.t.Fatal(err)
		}
		return string(text)
	}
	var guard string
	if err := json.Unmarshal(state["guardRules"], &guard); err != nil {
		c.t.Fatal(err)
	}
	or := func(section json.RawMessage, defaultValue string) string {
		if section == nil {
			return defaultValue
		}
		return string(section)
	}
	for name, text := range map[string]string{
		"attachment.json": withVersion(state["attachment"]), "conf.json": string(state["configuration"]),
		"found.json": withVersion(state["found"]), "refused.json": or(state["refused"], "{}"),
		"ran.json": or(state["chosen"], "{}"), "retry.json": or(state["retry"], "{}"),
		"guard.nft": guard, "imported": "", "push.json": "{}",
	} {
		if err := os.WriteFile(filepath.Join(c.directory(), name), []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := os.Remove(c.directory() + "/state.json"); err != nil {
		c.t.Fatal(err)
	}
}

// stateFiles lists those of state.json and the files of release 0.1.0 that exist.
func (c *container) stateFiles() (names []string) {
	for _, name := range append([]string{"state.json"}, oldFiles...) {
		if _, err := os.Lstat(filepath.Join(c.directory(), name)); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// killBefore runs a verb, and kills it before it executes a system call on a file. The system call is not executed.
func (c *container) killBefore(verb, call, file string) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-P", filepath.Join(c.directory(), file),
		"-e", "trace="+call, "-e", "inject="+call+":error=EPERM:signal=SIGKILL", self)
	cmd.Env = c.environment(verb)
	cmd.Stdin = strings.NewReader(c.conf())
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.Exited() && cmd.ProcessState.ExitCode() != 137 {
		c.t.Fatalf("%s was not killed before %s of %s: %v: %s", verb, call, file, err, out)
	}
}

// requireSameDaemon fails the test if the daemon was restarted, or if one of its conns was loaded again.
func (c *container) requireSameDaemon(when, pid string, before map[string]string) {
	c.t.Helper()
	if now := c.property("MainPID"); now != pid {
		c.t.Errorf("%s: the daemon was restarted", when)
	}
	now := serials(c.whack("--status"))
	for conn, serial := range before {
		if now[conn] != serial {
			c.t.Errorf("%s: conn %s was loaded again", when, conn)
		}
	}
}

func TestKilledMigrationLosesNothing(t *testing.T) {
	requireSandbox(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("requires strace")
	}
	c := newContainer(t, "vpn-migrated")
	c.configuration = fmt.Sprintf(oneConnection, moreConnections)
	c.must("ADD")
	c.must("ADD") // resets the retry schedule, which the first ADD has set
	state, pid, before := c.sections(), c.property("MainPID"), serials(c.whack("--status"))
	for i, file := range append([]string{"state.json"}, oldFiles...) {
		when := "killed before the removal of " + file
		c.makeOld()
		want := append([]string{"state.json"}, oldFiles[max(0, i-1):]...)
		if file == "state.json" {
			when = "killed before state.json was renamed"
			c.killBefore("ADD", "renameat", file)
			want = oldFiles
		} else {
			c.killBefore("ADD", "unlinkat", file)
		}
		if files := c.stateFiles(); !slices.Equal(files, want) {
			t.Errorf("%s: files %v, want %v", when, files, want)
		}
		c.must("CHECK")
		if files := c.stateFiles(); !slices.Equal(files, want) {
			t.Errorf("%s: CHECK changed the files to %v", when, files)
		}
		c.requireSameDaemon(when, pid, before)
		c.must("ADD")
		if files := c.stateFiles(); !slices.Equal(files, []string{"state.json"}) {
			t.Errorf("%s: files %v after the next ADD", when, files)
		}
		if left, _ := filepath.Glob(c.directory() + "/.new-*"); len(left) > 0 {
			t.Errorf("%s: %v remains", when, left)
		}
		c.requireSameDaemon(when+", after the next ADD", pid, before)
		after := c.sections()
		for _, name := range []string{"attachment", "configuration", "found", "chosen", "guardRules"} {
			if string(after[name]) != string(state[name]) {
				t.Errorf("%s: %s is %s, was %s", when, name, after[name], state[name])
			}
		}
	}
	c.makeOld()
	c.must("DEL")
	c.requireRemoved()
}

func TestADDWithoutEditWritesNothing(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-unchanged")
	c.configuration = fmt.Sprintf(strings.ReplaceAll(oneConnection, `"psk"`, `"initiator":"response-only","psk"`), "")
	c.must("ADD")
	c.must("ADD") // resets the retry schedule, which the first ADD has set
	listing := func() string { return sh(t, "find", c.directory(), "-type", "f", "-printf", "%p %i %C@\n") }
	before := listing()
	c.must("CHECK")
	c.must("ADD")
	c.must("CHECK")
	if after := listing(); after != before {
		t.Errorf("files before:\n%s\nafter:\n%s", before, after)
	}
}

func TestContainerWithInvalidStateIsRemovedByDEL(t *testing.T) {
	requireSandbox(t)
	for _, test := range []struct{ what, text, want string }{
		{"a truncated file", `{"version":2,"attachment":{`, "unexpected end of JSON input"},
		{"a newer version", `{"version":3}`, "version 3 is newer than this program's 2"},
	} {
		c := newContainer(t, "vpn-damaged")
		c.must("ADD")
		if err := os.WriteFile(c.directory()+"/state.json", []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.fails("CHECK", 104, test.want)
		c.fails("ADD", 999, test.want)
		c.must("DEL")
		contains(t, test.what+": the log", c.stderr, "state damaged", test.want)
		c.requireRemoved()
		if rules := tryShell("ip", "netns", "exec", c.name, "nft", "list", "ruleset"); rules != "" {
			t.Errorf("%s: nftables rules remain:\n%s", test.what, rules)
		}
		c.must("DEL")
		c.must("ADD")
		c.must("DEL")
		sh(t, "ip", "netns", "del", c.name)
	}
}
