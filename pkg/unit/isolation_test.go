package unit

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnitHasItsNetworkNamespaceAndMounts(t *testing.T) {
	bus, ctx := sandbox(t)
	if out, err := exec.Command("ip", "netns", "add", "u-view").CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", "u-view").Run() })
	shown := tempFile(t, "shown")
	must(t, os.WriteFile(shown, []byte("seen"), 0o600))
	p := program(t, bus, "u-view", "ready")
	p.NetworkNamespacePath = "/run/netns/u-view"
	p.TemporaryFileSystem = []string{"/opt", "/home"}
	p.BindPaths = []Bind{{Source: shown, Destination: "/opt/shown"}}
	p.BindReadOnlyPaths = []Bind{
		{Source: "/etc", Destination: "/home/etc"}, {Source: "/nowhere/to/be/found", MayMiss: true},
	}
	p.CapabilityBoundingSet = []int{unix.CAP_NET_ADMIN}
	must(t, bus.Start(ctx, p))
	proc := "/proc/" + show(t, p.Name, "MainPID")

	var inside, named unix.Stat_t
	must(t, errors.Join(unix.Stat(proc+"/ns/net", &inside), unix.Stat(p.NetworkNamespacePath, &named)))
	if inside.Ino != named.Ino {
		t.Errorf("namespace %d, want %d", inside.Ino, named.Ino)
	}
	if got, err := os.ReadFile(proc + "/root/opt/shown"); string(got) != "seen" {
		t.Errorf("file %q, %v", got, err)
	}
	if _, err := os.Stat(proc + "/root/home/etc/passwd"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(proc+"/root/home/etc/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a read-only bind mount: %v", err)
	}
	status, err := os.ReadFile(proc + "/status")
	must(t, err)
	if !strings.Contains(string(status), "CapBnd:\t0000000000001000\n") {
		t.Errorf("capabilities: %s", status)
	}
}

// TestCommandsSurviveReload checks that commands are not lost or changed at a daemon-reload, when systemd reads a
// transient unit back from the file that it wrote for it.
func TestCommandsSurviveReload(t *testing.T) {
	bus, ctx := sandbox(t)
	before, after := tempFile(t, "before"), tempFile(t, "after")
	p := program(t, bus, "u-reload", "ready")
	p.ExecStartPre = []Command{{"-/bin/false"}, {"/bin/touch", before}}
	p.ExecStopPost = []Command{{"-/bin/false"}, {"/bin/touch", after}}
	run := func(what string, do func() error, files ...string) {
		must(t, do())
		for _, file := range files {
			if err := os.Remove(file); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	run("start", func() error { return bus.Start(ctx, p) }, before)
	run("restart", func() error { return bus.Restart(ctx, p.Name) }, after, before)
	systemctl(t, "daemon-reload")
	run("restart after a reload", func() error { return bus.Restart(ctx, p.Name) }, after, before)
	run("stop", func() error { return bus.Stop(ctx, p.Name) }, after)
}
