package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/mountview"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/userid"
)

// viewDirectory is the directory with the bind mounts of the mount views.
const viewDirectory = "/run/svc-ipsec/.view"

// otherExecutable returns the path of a copy of this executable. Like an executable after an upgrade, it has another
// mount view.
func otherExecutable(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The copy is below /run and not below /tmp, because a mount view does not contain the host's /tmp.
	directory, err := os.MkdirTemp("/run", "svc-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	other := filepath.Join(directory, "svc-ipsec")
	sh(t, "cp", self, other)
	return other
}

func isView(path string) bool {
	var system unix.Statfs_t
	return unix.Statfs(path, &system) == nil && system.Type == unix.NSFS_MAGIC
}

// gcOf returns a container whose GC is for the network, without valid attachments.
func gcOf(t *testing.T, network string) *container {
	return &container{
		t: t, network: network, name: "gc", id: "gc", iface: "svc0", foreign: true,
		configuration: "{}", attachments: "[]",
	}
}

func runGC(t *testing.T, network string) {
	t.Helper()
	gcOf(t, network).must("GC")
}

func TestGCRemovesUnusedMountViews(t *testing.T) {
	requireSandbox(t)
	current, old := newContainer(t, "vpn-view"), newContainer(t, "vpn-oldview")
	old.port, old.executable = "", otherExecutable(t)
	current.must("ADD")
	old.must("ADD")
	var unused string
	record := func(view string) error { unused = view; return nil }
	if err := mountview.Ensure(t.Context(), "/run/svc-ipsec", otherExecutable(t), record); err != nil {
		t.Fatal(err)
	}
	plainFile := viewDirectory + "/1-0-0-0"
	if err := os.WriteFile(plainFile, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	currentView, oldView := viewInState(t, current.name), viewInState(t, old.name)
	if currentView == oldView || !isView(unused) {
		t.Fatalf("views %s, %s and %s", currentView, oldView, unused)
	}
	runGC(t, "another-network")
	for path, what := range map[string]string{unused: "a view that no container uses", plainFile: "a plain file"} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s remains: %v", what, err)
		}
	}
	for path, what := range map[string]string{currentView: "of this executable", oldView: "of a running daemon"} {
		if !isView(path) {
			t.Errorf("the view %s was removed: %s", what, path)
		}
	}
	// systemd restarts the daemon in its former view.
	pid := old.property("MainPID")
	sh(t, "kill", "-KILL", pid)
	eventually(t, "the daemon runs again", func() bool {
		now := old.property("MainPID")
		return now != "0" && now != pid && old.property("SubState") == "running"
	})
	old.must("CHECK")
	// The view of this executable is kept even without a container.
	current.must("DEL")
	old.must("DEL")
	runGC(t, "another-network")
	if entries, err := os.ReadDir(viewDirectory); err != nil || len(entries) != 1 || !isView(currentView) {
		t.Errorf("remaining views: %v, %v", entries, err)
	}
}

func TestGCKeepsMountViewsIfAStateIsUnreadable(t *testing.T) {
	requireSandbox(t)
	var view string
	record := func(path string) error { view = path; return nil }
	if err := os.MkdirAll("/run/svc-ipsec/vpn-damaged", 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll("/run/svc-ipsec/vpn-damaged") })
	if err := mountview.Ensure(t.Context(), "/run/svc-ipsec", otherExecutable(t), record); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/run/svc-ipsec/vpn-damaged/state.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if failure, err := gcOf(t, "another-network").try("GC"); err != nil || failure == nil || !isView(view) {
		t.Errorf("GC: %v, %v; the view exists: %v", failure, err, isView(view))
	}
	if err := os.RemoveAll("/run/svc-ipsec/vpn-damaged"); err != nil {
		t.Fatal(err)
	}
	runGC(t, "another-network")
	if isView(view) {
		t.Error("the view remains")
	}
}

func TestGCWaitsForADDThatHasNotStoredItsView(t *testing.T) {
	requireSandbox(t)
	directory := "/run/svc-ipsec/vpn-slow"
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	collected := make(chan error, 1)
	var view string
	err := mountview.Ensure(t.Context(), "/run/svc-ipsec", otherExecutable(t), func(path string) error {
		view = path
		gc := gcOf(t, "another-network")
		go func() {
			failure, err := gc.try("GC")
			if failure != nil {
				err = failure
			}
			collected <- err
		}()
		time.Sleep(500 * time.Millisecond) // a GC that does not wait ends within this time
		attachment := map[string]any{"network": "n", "containerId": "c"}
		state, err := json.Marshal(map[string]any{"version": 2, "view": view, "attachment": attachment})
		if err != nil {
			return err
		}
		return os.WriteFile(directory+"/state.json", state, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-collected; err != nil {
		t.Error(err)
	}
	if !isView(view) {
		t.Error("GC has removed the view of a running ADD")
	}
}

func TestGCReleasesUnusedUserIDs(t *testing.T) {
	requireSandbox(t)
	users := userid.Host(slog.New(slog.DiscardHandler))
	inDirectory := func(name string) func(uint32) func() {
		return func(uint32) func() {
			if err := os.MkdirAll("/run/svc-ipsec/"+name, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() { _ = os.RemoveAll("/run/svc-ipsec/" + name) }
		}
	}
	named := func(id uint32) func() {
		owner := spec.Owner{Network: "net-ids", Name: "vpn-named", ContainerID: "c"}
		if err := netns.Directory.Make(owner, id); err != nil {
			t.Fatal(err)
		}
		return func() { sh(t, "ip", "netns", "delete", "vpn-named") }
	}
	process := func(id uint32) func() {
		owner := spec.Owner{Network: "net-ids", Name: "vpn-unnamed", ContainerID: "c"}
		if err := netns.Directory.Make(owner, id); err != nil {
			t.Fatal(err)
		}
		sleeper := exec.Command("ip", "netns", "exec", "vpn-unnamed", "sleep", "300")
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a process is in the namespace", func() bool {
			text, err := os.ReadFile("/proc/" + strconv.Itoa(sleeper.Process.Pid) + "/comm")
			return err == nil && string(text) == "sleep\n"
		})
		sh(t, "ip", "netns", "delete", "vpn-unnamed")
		return func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }
	}
	nothing := func(uint32) func() { return func() {} }
	for _, row := range []struct {
		name     string
		owner    spec.Owner
		make     func(uint32) func()
		network  string // the network of GC
		released bool
	}{
		{"nothing exists", spec.Owner{Network: "net-ids", Name: "vpn-none", ContainerID: "c"}, nothing, "net-ids",
			true},
		{"the container has a directory", spec.Owner{Network: "net-ids", Name: "vpn-dir", ContainerID: "c"},
			inDirectory("vpn-dir"), "net-ids", false},
		{"a namespace with a name remains", spec.Owner{Network: "net-ids", Name: "vpn-ns", ContainerID: "c"},
			named, "net-ids", false},
		{"a namespace with a process remains", spec.Owner{Network: "net-ids", Name: "vpn-proc", ContainerID: "c"},
			process, "net-ids", false},
		{"the container belongs to another network",
			spec.Owner{Network: "net-other", Name: "vpn-else", ContainerID: "c"}, nothing, "net-ids", false},
		{"the supervisor itself releases the id", spec.Owner{Network: spec.Network, Name: "vpn-sup", ContainerID: "c"},
			nothing, spec.Network, false},
	} {
		id, err := users.Allocate(t.Context(), row.owner)
		if err != nil {
			t.Fatal(err)
		}
		remove := row.make(id)
		runGC(t, row.network)
		if _, found, err := users.Owner(id); err != nil || found == row.released {
			t.Errorf("%s: registered after GC: %v, %v", row.name, found, err)
		}
		remove()
		unused := func(uint32) (bool, error) { return false, nil }
		if err := users.Release(context.Background(), row.owner, unused); err != nil {
			t.Error(err)
		}
	}
}

// viewInState returns the path of the mount view in the state of a container.
func viewInState(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("/run/svc-ipsec/" + name + "/state.json")
	if err != nil {
		t.Fatal(err)
	}
	var state struct{ View string }
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	return state.View
}
