package launch

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var programs = Programs{
	NSEnter: "/usr/bin/nsenter", Setpriv: "/usr/bin/setpriv",
	Pluto: "/usr/libexec/ipsec/pluto", Addconn: "/usr/libexec/ipsec/addconn",
}

func TestArgumentsAreParsed(t *testing.T) {
	for _, owned := range []bool{true, false} {
		command := Arguments(programs, "/view", "/run/netns/vpn", "/run/svc-ipsec/vpn", 2100000001, owned)
		prefix := []string{"/usr/bin/nsenter", "--mount=/view", "--net=/run/netns/vpn", "--", "/run/svc-ipsec-launch"}
		if !slices.Equal(command[:len(prefix)], prefix) {
			t.Fatalf("got %q", command)
		}
		s, err := parse(command[len(prefix):])
		if want := (start{programs, "/run/svc-ipsec/vpn", 2100000001, owned}); err != nil || *s != want {
			t.Errorf("got %+v, %v, want %+v", s, err, want)
		}
	}
}

func TestInvalidArgumentsAreRefused(t *testing.T) {
	good := (&start{programs, "/run/svc-ipsec/vpn", 7, true}).arguments(Command)
	for name, change := range map[string]func([]string) []string{
		"too few":                func(a []string) []string { return a[:7] },
		"too many":               func(a []string) []string { return append(a, "x") },
		"root":                   func(a []string) []string { a[2] = "0"; return a },
		"a user name, not an id": func(a []string) []string { a[2] = "root"; return a },
		"an unknown owner":       func(a []string) []string { a[3] = "maybe"; return a },
	} {
		if served, err := Serve(change(slices.Clone(good))); !served || err == nil {
			t.Errorf("%s: served %v, %v", name, served, err)
		}
	}
	for _, args := range [][]string{nil, {"push", "x"}, {"ctl"}} {
		if served, err := Serve(args); served || err != nil {
			t.Errorf("%v: served %v, %v", args, served, err)
		}
	}
}

func TestRemoveContentDoesNotFollowLinks(t *testing.T) {
	outside, run := t.TempDir(), t.TempDir()
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pluto.ctl", "up"} {
		if err := os.Symlink(outside, filepath.Join(run, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(run, "push"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeContent(run); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(run); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

// TestFilterDeniesNewNamespaces runs this test program again, and installs the filter in that process.
func TestFilterDeniesNewNamespaces(t *testing.T) {
	const environment = "SVC_TEST_FILTERED"
	if os.Getenv(environment) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), environment+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := restrictCalls(); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []uintptr{unix.CLONE_NEWUSER, unix.CLONE_NEWNET, unix.CLONE_NEWNS} {
		pid, _, code := unix.RawSyscall6(unix.SYS_CLONE, flag|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if code != unix.EPERM {
			if pid == 0 {
				unix.Exit(0)
			}
			t.Errorf("clone with %#x: %v", flag, code)
		}
	}
	if _, _, code := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); code != unix.ENOSYS {
		t.Errorf("clone3: %v", code)
	}
	if out, err := exec.Command("/bin/sh", "-c", "echo runs").CombinedOutput(); err != nil || string(out) != "runs\n" {
		t.Errorf("a program that creates no namespace: %v %s", err, out)
	}
}
