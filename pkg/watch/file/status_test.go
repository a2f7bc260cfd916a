package file

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// newStatusNSDB returns an NSDB and its status directory, which does not exist yet.
func newStatusNSDB(t *testing.T) (*NSDB, string) {
	status := filepath.Join(t.TempDir(), "run", "status")
	return Open(Location{Dir: t.TempDir(), Status: status, Rescan: time.Hour}, "h", slog.New(slog.DiscardHandler)),
		status
}

// put writes the status of a container.
func put(ctx context.Context, n *NSDB, id spec.ContainerID, status spec.ContainerStatus) error {
	value, err := n.EncodeContainer(status)
	if err != nil {
		return err
	}
	return n.PutStatus(ctx, id, value)
}

// putHost writes the status of the host.
func putHost(ctx context.Context, n *NSDB, status spec.HostStatus) error {
	value, err := n.EncodeHost(status)
	if err != nil {
		return err
	}
	return n.PutStatus(ctx, "", value)
}

// listed returns the containers that have a status, sorted.
func listed(t *testing.T, n *NSDB) []spec.ContainerID {
	t.Helper()
	statuses, err := n.ListStatuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id, value := range statuses {
		if value != nil {
			t.Errorf("status of %s is to be put again, although it does not expire", id)
		}
	}
	return slices.Sorted(maps.Keys(statuses))
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return stat.Sys().(*syscall.Stat_t).Ino
}

var running = spec.ContainerStatus{
	Code: spec.Running, Message: "1 < 2 & \"up\"", HostID: "h", NamespaceName: "vpn-1", InterfaceName: "vpn-1",
	Connections: []spec.Connection{{
		ID: "x", Name: "to-paris", Status: spec.Active,
		Pairs: []spec.Pair{{Local: "10.1.0.0/24", Peer: "10.2.0.0/24", Status: spec.Active}},
	}},
}

func TestStatusesAreIndentedJSON(t *testing.T) {
	nsdb, status := newStatusNSDB(t)
	if err := putHost(t.Context(), nsdb, spec.HostStatus{Weight: 1, Quota: -1, Count: 2}); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), nsdb, "c", running); err != nil {
		t.Fatal(err)
	}
	for path, golden := range map[string]string{
		"hosts/h.json":        "testdata/host-status.json",
		"containers/h/c.json": "testdata/container-status.json",
	} {
		if got := readFile(t, filepath.Join(status, path)); got != readFile(t, golden) {
			t.Errorf("%s: got\n%s", path, got)
		}
	}
}

// This test is not parallel, because it changes the umask of the process.
func TestStatusModesIgnoreUmask(t *testing.T) {
	nsdb, status := newStatusNSDB(t)
	defer syscall.Umask(syscall.Umask(0o077))
	if err := put(t.Context(), nsdb, "c", running); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{
		"": 0o755, "..": 0o755, "containers": 0o755, "containers/h": 0o755, "containers/h/c.json": 0o644,
	} {
		stat, err := os.Stat(filepath.Join(status, path))
		if err != nil || stat.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, stat.Mode(), err)
		}
	}
}

func TestUnchangedStatusIsNotWritten(t *testing.T) {
	nsdb, status := newStatusNSDB(t)
	path := filepath.Join(status, "containers/h/c.json")
	publish := func(s spec.ContainerStatus) uint64 {
		t.Helper()
		if err := put(t.Context(), nsdb, "c", s); err != nil {
			t.Fatal(err)
		}
		return inode(t, path)
	}
	first := publish(running)
	golden := readFile(t, path)
	if publish(running) != first {
		t.Error("the same status was written again")
	}
	stopping := running
	stopping.Code = spec.Stopping
	if second := publish(stopping); second == first || !strings.Contains(readFile(t, path), "STOPPING") {
		t.Error("another status was not written by replacing the file")
	}
	for name, damage := range map[string]func() error{
		"emptied by a power failure":   func() error { return os.Truncate(path, 0) },
		"edited by hand":               func() error { return os.WriteFile(path, []byte("{}"), 0o644) },
		"removed":                      func() error { return os.Remove(path) },
		"removed with its directories": func() error { return os.RemoveAll(filepath.Dir(status)) },
		"with a temporary file of a killed process": func() error {
			return os.WriteFile(filepath.Join(filepath.Dir(path), ".c.json.tmp"), []byte("{"), 0o400)
		},
		"with a link in place of the temporary file": func() error {
			return os.Symlink("/nonexistent/victim", filepath.Join(filepath.Dir(path), ".c.json.tmp"))
		},
	} {
		publish(stopping)
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		publish(running)
		if readFile(t, path) != golden {
			t.Errorf("%s: got %s", name, readFile(t, path))
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: left behind: %v %v", name, entries, err)
		}
	}
}

func TestLeftoverTemporaryFileIsRemoved(t *testing.T) {
	nsdb, status := newStatusNSDB(t)
	temporary := filepath.Join(status, "containers/h/.c.json.tmp")
	for range 2 {
		if err := put(t.Context(), nsdb, "c", running); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(temporary); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left behind: %v", err)
		}
		if err := os.WriteFile(temporary, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyContainersOfThisHostAreListed(t *testing.T) {
	nsdb, status := newStatusNSDB(t)
	if ids := listed(t, nsdb); len(ids) > 0 {
		t.Errorf("before anything was published: %v", ids)
	}
	for _, id := range []spec.ContainerID{"c", "a.json", "b"} {
		if err := put(t.Context(), nsdb, id, running); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(status, "containers")
	for _, name := range []string{"h/.c.json.tmp", "h/notes.txt", "h/a b.json", "h/dir.json/x", "x/d.json"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if ids := listed(t, nsdb); !slices.Equal(ids, []spec.ContainerID{"a.json", "b", "c"}) {
		t.Errorf("got %v", ids)
	}
}

func TestDeleteStatusIsIdempotent(t *testing.T) {
	nsdb, _ := newStatusNSDB(t)
	for range 2 {
		if err := nsdb.DeleteStatus(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t.Context(), nsdb, "c", running); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := nsdb.DeleteStatus(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
	}
	if ids := listed(t, nsdb); len(ids) > 0 {
		t.Errorf("got %v", ids)
	}
}

func TestPublishErrorIsOneLine(t *testing.T) {
	nsdb, status := newStatusNSDB(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := putHost(ended, nsdb, spec.HostStatus{}); err == nil {
		t.Error("the status was written although the context had ended")
	}
	for _, id := range []spec.ContainerID{"../../etc/passwd", "a/b", "a\nb"} {
		for _, err := range []error{put(t.Context(), nsdb, id, running), nsdb.DeleteStatus(t.Context(), id)} {
			if err == nil || !strings.Contains(err.Error(), "allowed:") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: %v", id, err)
			}
		}
	}
	if err := os.WriteFile(filepath.Dir(status), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := put(t.Context(), nsdb, "c", running)
	if err == nil || !strings.HasPrefix(err.Error(), `publish status of container "c": `) {
		t.Errorf("got %v", err)
	}
}
