package agent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestClearRemovesWhatTheAgentMade(t *testing.T) {
	if os.Getenv("SVC_TEST_GROUND") != "1" {
		t.Skip("needs the sandbox: make unit")
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	name := spec.Name("vpn-agent")
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
	folder := filepath.Join(m.Temp, string(name))
	if err := os.MkdirAll(filepath.Join(folder, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // it enters the namespace by itself
	for range 2 {
		if err := m.Clear(context.Background(), name); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = daemon.Process.Kill()
		t.Error("the daemon lives")
	}
	for _, path := range []string{netns.Directory.Path(name), filepath.Join("/sys/class/net", string(name)), folder} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}
