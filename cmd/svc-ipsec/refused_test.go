package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const libexec = "/usr/libexec/ipsec/"

// replaceProgram replaces a program of Libreswan by a script. The program itself gets the suffix .real. undo restores
// it.
func replaceProgram(t *testing.T, program, script string) (undo func()) {
	t.Helper()
	path := libexec + program
	if err := os.Rename(path, path+".real"); err != nil {
		t.Fatal(err)
	}
	undo = func() { _ = os.Rename(path+".real", path) }
	t.Cleanup(undo)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return undo
}

const (
	siteA = `{"id":"a","peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.2.0.0/24"],` +
		`"psk":"k",` +
		`"ikePolicy":{"pfs":"%s"}}`
	siteB = `{"id":"b","peerAddress":"200.200.200.2","localCidrs":["10.1.0.0/24"],"peerCidrs":["10.3.0.0/24"],` +
		`"psk":"k"}`
)

// TestConnectionRefusedByDaemonKeepsPrecedence has a running connection whose edit the daemon refuses, and a new
// connection that conflicts with it. ADD and CHECK must still refuse the new connection, and request another ADD for
// the refused one.
func TestConnectionRefusedByDaemonKeepsPrecedence(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-place")
	c.configuration = documentOf(fmt.Sprintf(siteA, "group14"))
	c.must("ADD")
	undo := replaceProgram(t, "addconn", `case " $* " in *" a-0-0 "*) exit 36 ;; esac; exec "$0.real" "$@"`)
	c.configuration = documentOf(siteB, fmt.Sprintf(siteA, "group15"))
	var began time.Time
	for _, verb := range []string{"ADD", "CHECK", "CHECK", "ADD", "CHECK"} {
		if verb == "ADD" {
			began = time.Now()
		}
		c.must(verb)
		h := c.health()
		contains(t, verb+": the reason of b", h.Connections[0].Reason, `ikePolicy: connection "a"`)
		contains(t, verb+": the reason of a", h.Connections[1].Reason, "pluto refused it")
		least := 299 - int(time.Since(began).Seconds()) // counted from the ADD, in whole seconds
		if h.Again == nil || h.Again.After < least-1 || h.Again.After > 300 {
			t.Errorf("%s: again %+v, want %d to 300 s", verb, h.Again, least)
		}
	}
	undo()
	c.must("ADD")
	if all := serials(c.whack("--status")); all["a-0-0"] == "" || len(all) != 1 {
		t.Errorf("conns %v", all)
	}
	c.must("CHECK")
}

// TestKilledAddconnFailsADD has an addconn that is killed. It is then unknown whether the daemon accepts the conn, so
// ADD fails, and the next ADD loads the conn.
func TestKilledAddconnFailsADD(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-killed")
	c.configuration = documentOf(siteB)
	c.must("ADD")
	before := serials(c.whack("--status"))["b-0-0"]
	c.configuration = documentOf(siteB, fmt.Sprintf(siteA, "group14"))
	undo := replaceProgram(t, "addconn", `kill -KILL $$`)
	c.fails("ADD", 999, "load conns: addconn: signal: killed")
	c.must("CHECK")
	undo()
	c.must("ADD")
	if all := serials(c.whack("--status")); all["a-0-0"] == "" || all["b-0-0"] != before {
		t.Errorf("conns %v, b before %s", all, before)
	}
	c.must("CHECK")
}

// TestEditAfterUpgradeOfLibreswanChangesNothing edits a container whose daemon runs an older Libreswan than the
// installed one. Each ADD must fail without a change until the daemon is restarted.
func TestEditAfterUpgradeOfLibreswanChangesNothing(t *testing.T) {
	requireSandbox(t)
	version := strings.Fields(sh(t, libexec+"pluto", "--version"))[1]
	if version != "4.10" {
		t.Skip("requires Libreswan 4.10, whose version number the test replaces: " + version)
	}
	c := newContainer(t, "vpn-waits")
	c.configuration = documentOf(siteB)
	c.must("ADD")
	undo := replaceProgram(t, "addconn", `case " $* " in *" a-0-0 "*) exit 36 ;; esac; exec "$0.real" "$@"`)
	good := documentOf(siteB, strings.Replace(fmt.Sprintf(siteA, "group14"), "200.200.200.2", "200.200.200.7", 1))
	c.configuration = good
	c.must("ADD")
	undo()
	replaceProgram(t, "pluto", "") // the running daemon uses the renamed file
	sh(t, "sh", "-c", "sed s/4.10/4.11/g "+libexec+"pluto.real >"+libexec+"pluto")
	secrets := func() string {
		t.Helper()
		return sh(t, "cat", "/run/svc-ipsec/vpn-waits/etc/ipsec.secrets")
	}
	keys, pid := secrets(), c.property("MainPID")

	// Only IPv4: on a new link the kernel still changes the addresses and routes of IPv6.
	monitor := exec.Command("ip", "-4", "-n", c.name, "monitor", "address", "route", "neigh")
	var events strings.Builder
	monitor.Stdout = &events
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	guard, port := c.guard(), c.port
	c.configuration = documentOf(strings.Replace(siteB, "10.3.0.0", "10.33.0.0", 1))
	for range 2 {
		c.port = `{"addresses":["169.254.0.5/30"],"mac":"02:00:00:00:00:05"}`
		c.fails("ADD", 103,
			"the daemon runs Libreswan 4.10, and 4.11 is installed now: svc-supervisor restart vpn-waits "+
				"replaces it, its tunnels are down meanwhile; the change is made then")
		c.port = port
		c.must("CHECK")
	}
	_ = monitor.Process.Signal(os.Interrupt)
	_ = monitor.Wait()
	if events.String() != "" || c.guard() != guard || secrets() != keys {
		t.Errorf("the guard, the keys or the network were changed:\n%s", events.String())
	}

	// An ADD without an edit succeeds, although the daemon refused a conn.
	c.configuration, c.port = good, port
	c.must("ADD")
	contains(t, "the reason", c.health().Connections[1].Reason, "pluto refused it")
	if secrets() != keys || c.property("MainPID") != pid {
		t.Error("the daemon or its keys were replaced")
	}
	c.must("CHECK")
}
