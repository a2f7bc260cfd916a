package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	// former and edited are the connections of two configurations, which both have the connection "first" of inCommon.
	inCommon = `{"externalIps":["100.100.100.2"],"externalMac":"ca:08:1a:94:29:0e","connections":[
	{"id":"first","peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],
	"psk":"the-secret-of-the-ground-test"},%s]}`
	former = `{"id":"changes","peerAddress":"200.200.200.3",
		"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],"psk":"k"},
	{"id":"goes","peerAddress":"200.200.200.4","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.4.0.0/24"],"psk":"k"}`
	edited = `{"id":"changes","peerAddress":"200.200.200.33",
		"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],"psk":"other"},
	{"id":"comes","peerAddress":"200.200.200.5","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.5.0.0/24"],"psk":"k"}`

	incomplete = "a reconfigure is incomplete"
	nft        = "/usr/sbin/nft"

	// afterLoad matches at the first query after conns were loaded.
	afterLoad = `*" --listen "*" --status "*`
)

// reconfigurePoints are the points at which the tests interrupt a reconfigure. At each of them, a program hangs (see
// makeHang).
var reconfigurePoints = []struct{ what, program, when string }{
	{"before the first connection is deleted", libexec + "whack", `*" --delete "*`},
	{"before a second connection is deleted", libexec + "whack", `*" goes-0-0 --delete "*`},
	{"before the guard of both networks is set", nft, `*`},
	{"before the keys are read again and the conns are oriented", libexec + "whack", `*" --listen "*`},
	{"before the connections are loaded", libexec + "addconn", `*`},
	{"after the connections are loaded", libexec + "whack", afterLoad},
	{"before the connections are initiated", libexec + "whack", `*" --initiate "*`},
}

// makeHang replaces a program by a script that appends its arguments to a file, and hangs at the first call after which
// the whole file matches a shell pattern. With forEver, it hangs at all later calls too. reached reports whether it
// hangs. undo kills it and restores the program.
func (c *container) makeHang(program, when string, forEver bool) (reached func() bool, undo func()) {
	c.t.Helper()
	hung := c.directory() + "/run/there" // in the only directory that whack and addconn can write
	if program == nft {
		hung = c.directory() + "/there" // run/ may not exist
	}
	script := fmt.Sprintf(`#!/bin/sh
hang() { echo $$ >>%[1]s; exec sleep 3600; }
echo " $* " >>%[1]s.calls
if [ -e %[1]s ]; then ! %[2]t || hang; else case "$(cat %[1]s.calls)" in %[3]s) hang ;; esac; fi
exec %[4]s.real "$@"
`, hung, forEver, when, program)
	sh(c.t, "mv", program, program+".real")
	restored := false
	undo = func() {
		if restored {
			return
		}
		restored = true
		sh(c.t, "mv", program+".real", program)
		text, _ := os.ReadFile(hung)
		for _, pid := range strings.Fields(string(text)) {
			_ = exec.Command("kill", "-KILL", pid).Run()
		}
		_ = errors.Join(os.Remove(hung), os.Remove(hung+".calls"))
	}
	c.t.Cleanup(undo)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return func() bool { _, err := os.Stat(hung); return err == nil }, undo
}

// killAt runs ADD until a program hangs, and then kills ADD. It reports whether the program hung.
func (c *container) killAt(program, when string) bool {
	c.t.Helper()
	reached, undo := c.makeHang(program, when, false)
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env, cmd.Stdin = c.environment("ADD"), strings.NewReader(c.conf())
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ended := false
	eventually(c.t, "the program hangs", func() bool {
		select {
		case <-done:
			ended = true
		default:
		}
		return ended || reached()
	})
	if !ended {
		_ = cmd.Process.Kill()
		<-done
	}
	undo()
	return !ended
}

// observe returns everything that a reconfigure changes: addresses, routes, the bridge, the guard, and the conns of the
// daemon with their files.
func (c *container) observe() string {
	c.t.Helper()
	conns := []string{}
	for conn := range serials(c.whack("--status")) {
		text, err := os.ReadFile(filepath.Join(c.directory(), "conns", conn+".conf"))
		conns = append(conns, fmt.Sprintf("conn %s: %q %v", conn, text, err))
	}
	files, _ := filepath.Glob(c.directory() + "/conns/*")
	slices.Sort(conns)
	secrets := sh(c.t, "sha256sum", c.directory()+"/etc/ipsec.secrets")
	link := sh(c.t, "sh", "-c", "ip -j link show dev "+c.name+" | jq -r '.[0].master'")
	return sh(c.t, "ip", "-n", c.name, "-br", "address", "show", "dev", "svc0", "scope", "global") +
		sh(c.t, "ip", "-n", c.name, "route") + "bridge " + link + c.guard() +
		strings.Join(append(conns, files...), "\n") + secrets
}

// asksForCompletion reports whether the health of the last verb requests an ADD because a reconfigure is incomplete.
func (c *container) asksForCompletion() bool {
	c.t.Helper()
	again := c.health().Again
	return again != nil && again.After == 0 && again.Reason == incomplete
}

func TestKilledReconfigureIsCompletedByNextADD(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-killed")
	ports := map[string]string{former: c.port, edited: `{"addresses":["169.254.0.5/30"],"mac":"02:00:00:00:00:05"}`}
	to := func(configuration string) {
		c.configuration, c.port = fmt.Sprintf(inCommon, configuration), ports[configuration]
	}
	observed := map[string]string{}
	for _, configuration := range []string{edited, former} {
		to(configuration)
		c.must("ADD")
		c.must("CHECK")
		observed[configuration] = c.observe()
	}
	serial, pid := serials(c.whack("--status"))["first-0-0"], c.property("MainPID")
	unchanged := func(when string) {
		t.Helper()
		if now := serials(c.whack("--status"))["first-0-0"]; now != serial || c.property("MainPID") != pid {
			t.Errorf("%s: the connection that was not edited was loaded again", when)
		}
	}
	check := func(when string, wantIncomplete bool) {
		t.Helper()
		if failure, err := c.try("CHECK"); err != nil || failure != nil {
			t.Fatalf("%s: CHECK: %v, %v", when, failure, err)
		}
		if asks := c.asksForCompletion(); asks != wantIncomplete {
			t.Errorf("%s: CHECK requests %+v", when, c.health().Again)
		}
		unchanged(when)
	}
	for i, point := range reconfigurePoints {
		to(edited)
		if !c.killAt(point.program, point.when) {
			t.Errorf("not killed %s", point.what)
		}
		check(point.what, true)
		// The reconfigure back to former is killed too, if it reaches another point.
		next := reconfigurePoints[(i+3)%len(reconfigurePoints)]
		to(former)
		again := c.killAt(next.program, next.when)
		check(point.what+", and then back, "+next.what, again)
		last := []string{edited, former}[i%2]
		to(last)
		c.must("ADD")
		check(point.what+", at the end", false)
		if now := c.observe(); now != observed[last] {
			t.Errorf("%s: the next ADD made\n%s\nwant\n%s", point.what, now, observed[last])
		}
		if _, exists := c.sections()["incomplete"]; exists {
			t.Errorf("%s: state.json contains an incomplete reconfigure", point.what)
		}
		to(former)
		c.must("ADD")
	}

	// While a reconfigure is incomplete, CHECK still compares everything that the reconfigure does not change.
	ports[edited] = ports[former] // the same gateway, so both have the same route
	to(edited)
	c.killAt(libexec+"whack", `*" --listen "*`)
	check("with a route that both have", true)
	sh(t, "ip", "-n", c.name, "route", "del", "10.1.0.0/24")
	c.fails("CHECK", 104, "svc0 has lost its route to 10.1.0.0/24")
	c.must("ADD")
	check("completed", false)
}

func TestKilledReconfigureToAndFromNoConnections(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-nil")
	something, nothing := fmt.Sprintf(inCommon, former), `{"externalIps":["100.100.100.2"],"connections":[]}`
	c.configuration = something
	c.must("ADD")
	c.configuration = nothing
	c.killAt(nft, "*")
	if state := c.property("ActiveState"); state != "inactive" {
		t.Errorf("the daemon is %s", state)
	}
	for range 2 {
		c.must("CHECK")
		if !c.asksForCompletion() {
			t.Errorf("CHECK asks for %+v", c.health().Again)
		}
	}
	c.must("ADD")
	c.must("CHECK")
	c.configuration = something
	c.killAt(libexec+"whack", `*" --status --trafficstatus "`)
	c.must("CHECK")
	if !c.asksForCompletion() {
		t.Errorf("CHECK asks for %+v", c.health().Again)
	}
	c.must("ADD")
	c.must("CHECK")
	if c.asksForCompletion() || len(serials(c.whack("--status"))) != 3 {
		t.Errorf("not complete: %+v", c.health())
	}
	c.configuration = nothing
	c.killAt(nft, "*")
	c.must("DEL")
	c.requireRemoved()
}

func TestFailedReconfigureIsUndone(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-back")
	port := c.port
	c.configuration = fmt.Sprintf(inCommon, former)
	c.must("ADD")
	c.must("CHECK")
	before, serial := c.observe(), serials(c.whack("--status"))["first-0-0"]
	edit := func() {
		c.configuration = fmt.Sprintf(inCommon, edited)
		c.port = `{"addresses":["169.254.0.5/30"],"mac":"02:00:00:00:00:05"}`
	}
	fails := func(what, program, when string, forEver bool) {
		t.Helper()
		edit()
		_, undo := c.makeHang(program, when, forEver)
		if failure, err := c.try("ADD"); err != nil || failure == nil {
			t.Fatalf("%s: ADD of a daemon whose %s hangs: %v, %v", what, program, failure, err)
		}
		if forEver { // CHECK cannot determine the state of the container, which is not an observed difference
			c.fails("CHECK", spec.CodeAgain, "no answer")
		}
		undo()
		c.must("CHECK")
		if now := serials(c.whack("--status"))["first-0-0"]; now != serial {
			t.Errorf("%s: the connection that was not edited was loaded again", what)
		}
	}
	for _, point := range reconfigurePoints {
		if point.program != libexec+"whack" ||
			strings.Contains(point.when, "--initiate") {
			continue // ADD does not fail if initiate or addconn hangs once, or if the guard cannot be set
		}
		fails(point.what, point.program, point.when, false)
		if now := c.observe(); now != before {
			t.Errorf("%s: before\n%s\nafter\n%s", point.what, before, now)
		}
		if c.asksForCompletion() {
			t.Errorf("%s: the reconfigure was undone, but CHECK requests %+v", point.what, c.health().Again)
		}
	}
	fails("for ever, after the connections are loaded", libexec+"whack", afterLoad, true)
	if !c.asksForCompletion() {
		t.Errorf("the reconfigure could not be undone, and CHECK requests %+v", c.health().Again)
	}
	c.configuration, c.port = fmt.Sprintf(inCommon, former), port
	c.must("ADD")
	c.must("CHECK")
	if now := c.observe(); now != before || c.asksForCompletion() {
		t.Errorf("before\n%s\nafter\n%s", before, now)
	}
}
