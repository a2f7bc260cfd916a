package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

func fileKind(*testing.T) *Kind {
	fresh := func(t *testing.T) *directory {
		t.Helper()
		dir := t.TempDir()
		return &directory{
			dir: filepath.Join(dir, "nsdb"), at: filepath.Join(dir, "nsdb"), status: filepath.Join(dir, "status"),
			written: objects{},
		}
	}
	return &Kind{
		Name: "file", Parallel: true, Bridge: true,
		Fresh: func(t *testing.T) Backend { return fresh(t) },
		WithFaults: func(t *testing.T) (Backend, Faults) {
			d := fresh(t)
			away, end := func() { d.move(t, d.dir+".away") }, func() { d.move(t, d.dir) }
			return d, Faults{Cut: away, Restore: end, Stop: away, Start: end}
		},
	}
}

// directory is a Backend of files. It simulates a lost mount by renaming the directory.
type directory struct {
	dir, at, status string
	written         objects
}

func (d *directory) URL() string { return "file://" + d.dir + "?rescan=2s&status=" + d.status }

func (d *directory) move(t *testing.T, to string) {
	t.Helper()
	if err := os.Rename(d.at, to); err != nil {
		t.Fatal(err)
	}
	d.at = to
}

func (d *directory) path(key string) string { return filepath.Join(d.at, key+".json") }

func (d *directory) Write(t *testing.T, all objects) {
	t.Helper()
	for _, o := range all.list() {
		if d.written[o.Key] != string(o.Value) {
			d.put(t, o.Key, string(o.Value))
		}
	}
	gone := objects{}
	for key, value := range d.written {
		if _, stays := all[key]; !stays {
			gone[key] = value
		}
	}
	for _, o := range slices.Backward(gone.list()) {
		if err := os.Remove(d.path(o.Key)); err != nil {
			t.Fatal(err)
		}
	}
	d.written = maps.Clone(all)
}

func (d *directory) put(t *testing.T, key, value string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.path(key)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path(key), []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d *directory) Corrupt(t *testing.T, key string) {
	t.Helper()
	d.put(t, key, `{"id": hunter2`)
	d.written[key] = "corrupt"
}

func (d *directory) BadSetting(t *testing.T) {
	t.Helper()
	d.put(t, "config/default", badSetting)
}

func (d *directory) HostStatus(t *testing.T, host spec.HostID) (status spec.HostStatus, stamp string) {
	t.Helper()
	stamp = d.readStatus(t, "hosts/"+string(host), &status)
	return status, stamp
}

func (d *directory) ContainerStatus(
	t *testing.T, host spec.HostID, id spec.ContainerID,
) (status spec.ContainerStatus, stamp string) {
	t.Helper()
	stamp = d.readStatus(t, "containers/"+string(host)+"/"+string(id), &status)
	return status, stamp
}

func (d *directory) readStatus(t *testing.T, key string, into any) (stamp string) {
	t.Helper()
	path := filepath.Join(d.status, key+".json")
	stat, err := os.Stat(path)
	if os.IsNotExist(err) {
		return ""
	}
	content, errRead := os.ReadFile(path)
	if err != nil || errRead != nil || json.Unmarshal(content, into) != nil {
		t.Fatalf("status %s: %v %v %q", key, err, errRead, content)
	}
	s := stat.Sys().(*syscall.Stat_t)
	return fmt.Sprint(s.Ino, stat.ModTime().UnixNano())
}

// WriteAsOther returns a function that does nothing, because files have no owner process.
func (d *directory) WriteAsOther(t *testing.T, host spec.HostID, id spec.ContainerID) (endOwner func()) {
	t.Helper()
	key := native.ContainerStatusKey(host, id)
	path := filepath.Join(filepath.Dir(d.status), string(key)+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(otherStatusJSON(host)), 0o644); err != nil {
		t.Fatal(err)
	}
	return func() {}
}
