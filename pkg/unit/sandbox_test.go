package unit

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// daemonArgument as first argument makes the test binary the program of a unit. The next arguments select what it does.
const daemonArgument = "be-daemon"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == daemonArgument {
		runDaemon(os.Args[2], os.Args[3:])
	}
	os.Exit(m.Run())
}

// runDaemon does what the unit of a test should do. It does not return.
func runDaemon(behaviour string, args []string) {
	switch behaviour {
	case "exit":
		status, _ := strconv.Atoi(args[0])
		os.Exit(status)
	case "kill-self":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "write-args":
		_ = os.WriteFile(args[0]+".new", []byte(strings.Join(args[1:], "\x00")), 0o600)
		_ = os.Rename(args[0]+".new", args[0])
	case "ready":
		_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	case "slow":
		time.Sleep(2 * time.Second)
		_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	case "ignore-sigterm":
		signal.Ignore(syscall.SIGTERM)
		_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	case "silent":
	}
	for {
		time.Sleep(time.Hour)
	}
}

// sandbox returns a Bus for a test that starts units. It skips the test outside of the sandbox.
func sandbox(t testing.TB) (*Bus, context.Context) {
	t.Helper()
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: make bats")
	}
	if _, err := os.Stat("/run/systemd/private"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs the sandbox: make bats (no systemd for root here)")
	}
	bus := Open()
	t.Cleanup(bus.Close)
	return bus, t.Context()
}

// program returns a transient unit that runs the test binary.
func program(t testing.TB, bus *Bus, name string, args ...string) Transient {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bus.Stop(ctx, "svc-"+name+".service"); err != nil {
			t.Error(err)
		}
	})
	return Transient{
		Name: "svc-" + name + ".service",
		Owner: spec.Owner{
			Network: spec.Network, Name: spec.Name(name), ContainerID: "id-" + spec.ContainerID(name),
		},
		Slice:     "svc-test.slice",
		Type:      Notify,
		ExecStart: daemonCommand(t, args...),
	}
}

func daemonCommand(t testing.TB, args ...string) Command {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append(Command{self, daemonArgument}, args...)
}

// systemctl runs systemctl, so that a test does not read the state of systemd through the code under test.
func systemctl(t testing.TB, args ...string) string {
	t.Helper()
	out, _ := exec.Command("systemctl", args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func show(t testing.TB, unit, property string) string {
	t.Helper()
	return systemctl(t, "show", "--value", "-p", property, unit)
}

func isUnloaded(t testing.TB, unit string) {
	t.Helper()
	if got := systemctl(t, "list-units", "--all", "--no-legend", "--plain", unit); got != "" {
		t.Errorf("%s is still loaded: %s", unit, got)
	}
	if _, err := os.Stat("/run/systemd/transient/" + unit); err == nil {
		t.Errorf("the unit file of %s still exists", unit)
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func tempFile(t testing.TB, name string) string {
	t.Helper()
	// Not below /tmp, because a unit may have a private /tmp.
	dir, err := os.MkdirTemp("/run", "svc-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, name)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
