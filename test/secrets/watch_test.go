package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain runs the program itself if SVC_TEST_SECRETS is set, which a test below does.
func TestMain(m *testing.M) {
	if os.Getenv("SVC_TEST_SECRETS") != "" {
		main()
	}
	os.Exit(m.Run())
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFilesAreReadAndPublicTextsAreSearched(t *testing.T) {
	root := t.TempDir()
	m := newMonitor(root, root, newKeys())
	for range pollsPerFiles {
		m.poll()
	}
	put(t, root+"/run/svc-ipsec/left/etc/ipsec.secrets", "%any @x : PSK 0x6b6579206f66206c69627265\n")
	put(t, root+"/var/lib/svc-supervisor/containers/left.IPSEC",
		`{"conf":{"configuration":{"connections":[{"psk":"key of a record"}]}}}`)
	// The keys of refused connections are in no other file.
	put(t, root+"/run/svc-ipsec/right/state.json",
		`{"configuration":{"configuration":{"connections":[{"id":"ok"},{"mtu":5,"psk":"key of a refused one"},
		{"mtu":5,"pskBase64":"a2V5IGluIGJhc2U2NP8="}]}}}`)
	put(t, root+"/run/svc-ipsec/old/conf.json", `{"configuration":{"connections":[{"pskBase64":"no base64 at all"}]}}`)
	put(t, root+"/run/svc-supervisor/status/containers/h1/left.json", `{"message":"key of a record"}`)
	put(t, root+"/run/svc-supervisor/status/containers/h1/right.json", `{"message":"key of a refused one"}`)
	put(t, root+"/run/systemd/transient/svc-right.service", "Description=key in base64\xff\n")
	put(t, root+"/proc/9/cmdline", "x\x00no base64 at all")
	put(t, root+"/proc/9/comm", "x\n")
	put(t, root+"/proc/7/comm", "whack\n")
	put(t, root+"/proc/8/comm", "pluto\n")
	put(t, root+"/proc/7/cmdline", "whack\x00--secret\x00key of libre")
	put(t, root+"/proc/8/environ", "PSK=key of libre")
	put(t, root+"/proc/8/cmdline", "pluto")
	for range pollsPerFiles {
		m.poll()
	}
	if len(m.keys.list) != 5 {
		t.Fatalf("keys: %q", m.keys.list)
	}
	// The texts were captured before their files are removed.
	if err := os.RemoveAll(root + "/proc"); err != nil {
		t.Fatal(err)
	}
	s := newSearch(m.keys)
	m.search(s)
	var out strings.Builder
	s.report(&out, "")
	for _, want := range []string{
		"command line of whack", "environment of pluto", "left.json", "right.json", "svc-right.service",
		"command line of x",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not found: %s\n%s", want, out.String())
		}
	}
	if len(s.findings) != 6 {
		t.Error(out.String())
	}
}

func TestFilesAreSearchedForTheKeysOfTheSources(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, directory := range []string{"cmd", "pkg", "test", "examples"} {
		put(t, directory+"/x.yaml", "psk: a key of "+directory+"\n")
	}
	put(t, "good.log", "ok\n")
	put(t, "bad.log", "ok\nnot ok: a key of examples\n")
	for file, want := range map[string]int{"good.log": 0, "bad.log": 1, "none.log": 0} {
		known := newKeys()
		if err := known.fromSources("."); err != nil {
			t.Fatal(err)
		}
		if got := searchFiles(known, []string{file}); got != want {
			t.Errorf("%s: %d, want %d", file, got, want)
		}
	}
}

// The test puts a key into each place that is searched. It needs systemd.
func TestAKeyIsFoundInEachPlace(t *testing.T) {
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("requires the sandbox: SVC_TEST_GROUND=1 is not set")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	for _, directory := range []string{"cmd", "pkg", "test", "examples"} {
		put(t, work+"/"+directory+"/x", "")
	}
	// Each run has a new key, so that a key that one script exposes is not found in a later run. The scripts below read
	// it from a file. The key is not in the usual directories, because the instance of secrets that runs this test
	// would find it there too.
	runs := 0
	run := func(script string) (string, int) {
		runs++
		key := fmt.Sprintf("a \"key\" %d of %d", runs, time.Now().UnixNano())
		put(t, work+"/held/run/svc-ipsec/x/etc/ipsec.secrets", fmt.Sprintf("x : PSK 0x%x\n", key))
		put(t, work+"/key", key)
		// The modification times are set to the past, so that these files do not count as written during the run.
		for _, path := range []string{work + "/held/run/svc-ipsec/x/etc/ipsec.secrets", work + "/key"} {
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(self, "-held", work+"/held", "sh", "-c", script+"\nsleep 0.3")
		cmd.Dir = work
		cmd.Env = append(os.Environ(), "SVC_TEST_SECRETS=1")
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, place := range []struct{ name, script string }{
		{"output of the command", `cat key`},
		{"command line of bash", `bash -c 'sleep 0.2; :' "$(cat key)"`},
		{"environment of sleep", `x=$(cat key) sleep 0.2`},
		{"journalctl", `systemd-cat cat key`},
		{"/run/systemd/transient/svc-secrets",
			`systemd-run --quiet --unit=svc-secrets-test --setenv=KEY="$(cat key)" sleep 0.5; sleep 0.5`},
		{"/run/svc-supervisor/status/",
			`d=/run/svc-supervisor/status/containers/h; mkdir -p $d; base64 <key >$d/x.json; sleep 0.3; rm $d/x.json`},
		{"/tmp/secrets-test", `cp key /tmp/secrets-test`},
		{"/var/log/secrets-test", `od -An -tx1 -v <key | tr -d ' \n' >/var/log/secrets-test`},
	} {
		out, code := run(place.script)
		if code != 1 || !strings.Contains(out, "not ok secrets: "+place.name) {
			t.Errorf("%s: exit code %d:\n%s", place.name, code, out)
		}
	}
	for _, path := range []string{"/tmp/secrets-test", "/var/log/secrets-test"} {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
	const container = "d=/run/svc-ipsec/secrets-test; install -d -m 710 -g 2100000001 $d $d/etc; "
	for name, script := range map[string]string{
		"readable by root alone":           `install -m 600 key $d/state.json`,
		"readable by the container's user": `install -m 640 -g 2100000001 key $d/etc/x`,
	} {
		out, code := run(container + script + "; echo fine")
		if code != 0 || !strings.Contains(out, "fine\n# secrets: none of 1 keys is in ") {
			t.Errorf("%s: exit code %d:\n%s", name, code, out)
		}
	}
	for name, script := range map[string]string{
		"readable by all":                     `install -m 644 key $d/etc/x`,
		"readable by another group":           `install -m 640 -g 2100000002 key $d/etc/x`,
		"readable by all for two seconds":     `install -m 644 key $d/etc/x; sleep 2; rm $d/etc/x`,
		"state.json for the container's user": `install -m 640 -g 2100000001 key $d/state.json`,
		"owned by the daemon":                 `install -m 600 -o 2100000001 key $d/etc/x`,
	} {
		out, code := run(container + script)
		if code != 1 || !strings.Contains(out, "not ok secrets: /run/svc-ipsec/secrets-test/") {
			t.Errorf("%s: exit code %d:\n%s", name, code, out)
		}
		if err := os.RemoveAll("/run/svc-ipsec/secrets-test"); err != nil {
			t.Error(err)
		}
	}
	if out, code := run(`exit 7`); code != 7 {
		t.Errorf("a command that fails: exit code %d:\n%s", code, out)
	}
}

func TestTheOutputIsNotDelayed(t *testing.T) {
	var kept tee
	read, write := io.Pipe()
	go func() { fmt.Fprintln(kept.to(write), "a line") }()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil || line != "a line\n" || !bytes.Equal(kept.text.Bytes(), []byte(line)) {
		t.Errorf("got %q, kept %q: %v", line, kept.text.String(), err)
	}
}
