package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const agentContainer = spec.Name("vpn-agent")

// serviceCapabilities returns the capabilities of the supervisor's unit file as one property. The file has several
// lines of that property, but systemd-run applies only the last one of several properties.
func serviceCapabilities(t *testing.T) string {
	t.Helper()
	unit, err := os.ReadFile("../../../../contrib/systemd/svc-supervisor.service")
	if err != nil {
		t.Fatal(err)
	}
	const property = "CapabilityBoundingSet="
	var capabilities []string
	for line := range strings.Lines(string(unit)) {
		if names, found := strings.CutPrefix(line, property); found {
			capabilities = append(capabilities, strings.Fields(names)...)
		}
	}
	if len(capabilities) == 0 {
		t.Fatal("the unit has no " + property)
	}
	return property + strings.Join(capabilities, " ")
}

// TestClearWithServiceCapabilities is the part of TestClearRemovesAnAgentContainer that runs in a unit with the
// capabilities of the supervisor's service.
func TestClearWithServiceCapabilities(t *testing.T) {
	temp := os.Getenv("SVC_TEST_CLEAR")
	if temp == "" {
		t.Skip("is run by TestClearRemovesAnAgentContainer")
	}
	if err := (Machine{Namespaces: netns.Directory, Temp: temp}).Clear(t.Context(), agentContainer); err != nil {
		t.Fatal(err)
	}
}

func TestClearRemovesAnAgentContainer(t *testing.T) {
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: make unit")
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	name := agentContainer
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", string(name)).Run() })
	run("ip", "netns", "add", string(name))
	run("ip", "link", "add", string(name), "type", "veth", "peer", "name", "vpn-agent-ns", "netns", string(name))
	daemon := exec.Command("ip", "netns", "exec", string(name), "sleep", "1000")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	m := Machine{Namespaces: netns.Directory, Temp: t.TempDir()}
	directory := filepath.Join(m.Temp, string(name))
	if err := os.MkdirAll(filepath.Join(directory, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // the time that `ip netns exec` needs to enter the namespace
	capabilities := serviceCapabilities(t)
	for range 2 {
		run("systemd-run", "--quiet", "--wait", "--pipe", "--property="+capabilities, "--setenv=SVC_TEST_CLEAR="+m.Temp,
			os.Args[0], "-test.run=^TestClearWithServiceCapabilities$")
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = daemon.Process.Kill()
		t.Error("the daemon still runs")
	}
	for _, path := range []string{
		netns.Directory.Path(name), filepath.Join("/sys/class/net", string(name)), directory,
	} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}
