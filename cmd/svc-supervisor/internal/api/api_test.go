package api

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// fixedView is a View with fixed content.
type fixedView struct {
	rows []reconcile.Row
	host reconcile.HostRow
}

func (v fixedView) Rows() []reconcile.Row      { return v.rows }
func (v fixedView) HostRow() reconcile.HostRow { return v.host }

// serve serves a view, and the plugins in dirs, until the test ends.
func serve(t *testing.T, path string, view View, dirs ...string) {
	t.Helper()
	inventory, err := plugin.NewInventory(dirs, 10*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	inventory.Scan(t.Context(), time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := Serve(ctx, path, view, inventory, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := wait(); err != nil {
			t.Errorf("wait after a cancelled context: %v", err)
		}
	})
}

func TestContainersAreReadThroughTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "api.sock")
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	view := fixedView{
		host: reconcile.HostRow{ID: "host-1", HostStatus: spec.HostStatus{Weight: 1, Quota: -1, Count: 1}},
		rows: []reconcile.Row{{
			Name: "vpn", Type: "IPSEC", Version: "1.4.0", Status: "RUNNING", Units: []string{"svc-vpn.service"},
			AddedAt: &at, PortID: "p", ContainerID: "c",
			Health: &spec.Health{Code: spec.Running, Connections: []spec.Connection{{ID: "a", Status: spec.Active}}},
		}},
	}
	serve(t, path, view)
	var got Containers
	if err := Get(t.Context(), path, "containers", &got); err != nil {
		t.Fatal(err)
	}
	if want := (Containers{&view.host, view.rows}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEmptyListsAreNotNull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	serve(t, path, fixedView{})
	for _, what := range []string{"containers", "plugins"} {
		var got map[string]json.RawMessage
		if err := Get(t.Context(), path, what, &got); err != nil {
			t.Fatal(err)
		}
		for key, value := range got {
			if string(value) == "null" {
				t.Errorf("%s: %s is null", what, key)
			}
		}
	}
}

func TestPluginsAreReadThroughTheSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: an executable of another owner is refused")
	}
	// The supervisor refuses executables below /tmp, because every user can write there.
	dir, err := os.MkdirTemp("/srv", "svc-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, version := range map[string]string{"a": "1.0.0", "b": "2.0.0"} {
		content := `#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"supportedVersions":["1.1.0"],"serviceType":"T","serviceVersion":"` + version +
			`","contractVersion":1,"userNamespace":true}';;
*) echo '{"code":50,"msg":"no tool"}'; exit 1;;
esac
`
		// A child process that inherits the open file would make its execution fail with ETXTBSY (golang/go#22315).
		syscall.ForkLock.RLock()
		err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "c"), nil, 0o644), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".api.sock")
	serve(t, path, fixedView{}, dir)
	var got Plugins
	if err := Get(t.Context(), path, "plugins", &got); err != nil {
		t.Fatal(err)
	}
	want := Plugins{
		Executables: []Executable{
			{Path: dir + "/b", Type: "T", Version: "2.0.0", Selected: true, UserNamespace: true,
				Unready: "no tool (code 50)"},
			{Path: dir + "/a", Type: "T", Version: "1.0.0", UserNamespace: true, Unready: "no tool (code 50)"},
		},
		Refused: []Refused{{Path: dir + "/c", Reason: "not executable"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestOnlyRootCanOpenTheSocket(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "api.sock")
	serve(t, path, fixedView{})
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestOnlyTheTwoListsAreServed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	serve(t, path, fixedView{})
	for _, request := range []string{
		"POST /containers", "DELETE /containers", "PUT /plugins", "GET /", "GET /containers/vpn",
	} {
		connection, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = connection.Write([]byte(request + " HTTP/1.0\r\n\r\n"))
		answer := make([]byte, 100)
		n, readErr := connection.Read(answer)
		if err := errors.Join(err, readErr, connection.Close()); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(answer[:n]), "HTTP/1.0 40") {
			t.Errorf("%s: %s", request, answer[:n])
		}
	}
}

func TestSocketOfAKilledSupervisorIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	for _, name := range []string{path, path + ".new"} {
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := Get(t.Context(), path, "containers", new(Containers)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a socket of a process that has ended: %v", err)
	}
	serve(t, path, fixedView{})
	if err := Get(t.Context(), path, "containers", new(Containers)); err != nil {
		t.Error(err)
	}
}

func TestMissingServerIsErrNotRunning(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"missing", "missing/too", "file"} {
		err := Get(t.Context(), filepath.Join(dir, name), "containers", new(Containers))
		if !errors.Is(err, ErrNotRunning) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStoppedServerIsErrNotRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := Serve(ctx, path, fixedView{}, nil, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
	if err := Get(t.Context(), path, "containers", new(Containers)); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
}

func TestUnknownListIsAnErrorOfOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	serve(t, path, fixedView{})
	err := Get(t.Context(), path, "nothing", new(Containers))
	if err == nil || errors.Is(err, ErrNotRunning) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q", err)
	}
}

func TestHungServerIsErrNoAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", path) // accepts no connection, but the kernel completes connect(2)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = Get(t.Context(), path, "containers", new(Containers))
	if !errors.Is(err, ErrNoAnswer) || err.Error() != "the supervisor does not answer within 5s" {
		t.Errorf("got %v", err)
	}
}
