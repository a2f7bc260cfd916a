package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// inTime is like try, and fails the test if the verb does not end.
func (c *container) inTime(when, verb string) *spec.Error {
	c.t.Helper()
	type answer struct {
		failure *spec.Error
		err     error
	}
	done := make(chan answer, 1)
	go func() {
		failure, err := c.try(verb)
		done <- answer{failure, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			c.t.Errorf("%s: %s: %v", when, verb, a.err)
		}
		return a.failure
	case <-time.After(4 * time.Minute):
		c.t.Fatalf("%s: %s does not end", when, verb)
		return nil
	}
}

// obstacles are scripts that create a file of another type in the place of a regular file, $1. $2 is a directory of the
// host. A verb that opens the pipe would block.
var obstacles = map[string]string{
	"a pipe":           `mkfifo "$1"`,
	"a directory":      `mkdir "$1" && touch "$1/file"`,
	"a link to a file": `ln -s "$2/file-of-the-host" "$1"`,
	"a link to a pipe": `mkfifo "$2/pipe" && ln -s "$2/pipe" "$1"`,
}

func TestUnexpectedFilesBlockNoVerb(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-files")
	document := fmt.Sprintf(oneConnection, `,{"id":"edited","peerAddress":"200.200.200.8",`+
		`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.8.%d.0/24"],"psk":"k%[1]d"}`)
	edits := 0
	edit := func() { edits++; c.configuration = fmt.Sprintf(document, edits) }
	edit()
	c.must("ADD")
	c.must("CHECK")
	pid := c.property("MainPID")
	for _, place := range []struct {
		path       string
		check, add spec.Code // the error codes of CHECK, and of ADD with an edit
		kept       bool      // ADD does not replace this file
	}{
		{path: "run/push", kept: true},
		{path: "run/up", kept: true},
		{path: "run/.new-1"},
		{path: "run/pluto.ctl", check: 104, add: spec.CodeAgain, kept: true}, // no tunnel is up
		{path: "conns/first-0-0.conf"},
		{path: "conns/another-0-0.conf", kept: true},
		{path: "etc/ipsec.secrets"},
		{path: "etc/ipsec.conf"},
		{path: "etc/pluto.conf"},
		{path: "etc/ipsec.d"},
		{path: "etc/.new-1"},
		{path: "nss/pkcs11.txt", kept: true},
		{path: "nss/another", kept: true},
		{path: "attachment.json", kept: true},
		{path: "conf.json", kept: true},
		{path: "netns", kept: true},
		{path: ".new-load.conf"},
		{path: ".new-import"},
		{path: "state.json", check: spec.CodeAgain, add: 999, kept: true},
	} {
		for what, put := range obstacles {
			when := fmt.Sprintf("%s in the place of %s", what, place.path)
			path, host := filepath.Join(c.directory(), place.path), t.TempDir()
			if err := os.WriteFile(host+"/file-of-the-host", []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
			sh(t, "sh", "-c", `[ ! -e "$1" ] || mv "$1" "$1.saved"; `+put, "sh", path, host)
			code := func(failure *spec.Error) spec.Code {
				if failure == nil {
					return 0
				}
				return failure.Code
			}
			if failure := c.inTime(when, "CHECK"); code(failure) != place.check {
				t.Errorf("%s: CHECK: %+v", when, failure)
			}
			edit()
			if failure := c.inTime(when, "ADD"); code(failure) != place.add {
				t.Errorf("%s: ADD: %+v", when, failure)
			}
			if place.kept {
				sh(t, "sh", "-c", `rm -rf "$1"; [ ! -e "$1.saved" ] || mv "$1.saved" "$1"`, "sh", path)
			}
			sh(t, "rm", "-rf", path+".saved")
			if place.add != 0 {
				c.must("ADD")
			}
			if failure := c.inTime(when, "CHECK"); failure != nil {
				t.Errorf("%s: CHECK after ADD: %+v", when, failure)
			}
			if conns := serials(c.whack("--status")); len(conns) != 2 || c.property("MainPID") != pid {
				t.Errorf("%s: conns %v", when, conns)
			}
			if content, err := os.ReadFile(host + "/file-of-the-host"); err != nil || string(content) != "content" {
				t.Errorf("%s: the file of the host is now %q, %v", when, content, err)
			}
		}
	}
	for what, put := range obstacles {
		for _, place := range []string{
			"run/pluto.ctl", "conns/first-0-0.conf", "netns", "state.json", "attachment.json", "etc",
		} {
			when := fmt.Sprintf("%s in the place of %s", what, place)
			sh(t, "sh", "-c", `rm -rf "$1"; `+put, "sh", filepath.Join(c.directory(), place), t.TempDir())
			if failure := c.inTime(when, "DEL"); failure != nil {
				t.Errorf("%s: DEL: %+v", when, failure)
			}
			c.requireRemoved()
			c.must("ADD")
		}
	}
}

func TestDamagedKeyDatabaseBlocksNoVerb(t *testing.T) {
	requireSandbox(t)
	c := newContainer(t, "vpn-filescert")
	ca := newAuthority(t, "ca", nil)
	certificate := ca.issue("left", newKey(t, "rsa"), time.Now().Add(time.Hour), ca)
	network := 0
	edit := func() {
		network++
		c.configuration = leftCertificate(certificate, fmt.Sprintf(`},{"id":"edited","peerAddress":"200.200.200.8",`+
			`"localCidrs":["10.1.0.0/24"],"peerCidrs":["10.8.%d.0/24"],"psk":"k"`, network))
	}
	edit()
	c.must("ADD")
	serial := serials(c.whack("--status"))["cert-0-0"]
	for _, name := range []string{"pkcs11.txt", "key4.db", "cert9.db"} {
		path := c.directory() + "/nss/" + name
		sh(t, "sh", "-c", `mv "$1" "$1.saved"; mkfifo "$1"`, "sh", path)
		edit()
		when := "a pipe in the place of " + name
		for _, verb := range []string{"ADD", "CHECK"} {
			if failure := c.inTime(when, verb); failure != nil {
				t.Errorf("%s: %s: %+v", when, verb, failure)
			}
		}
		if now := serials(c.whack("--status")); now["cert-0-0"] != serial || len(now) != 2 {
			t.Errorf("%s: conns %v", when, now)
		}
		sh(t, "sh", "-c", `rm "$1"; mv "$1.saved" "$1"`, "sh", path)
		c.must("ADD")
		c.must("CHECK")
	}
}
