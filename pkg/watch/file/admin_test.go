package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func (f *fixture) read(name string) string {
	f.Helper()
	content, err := os.ReadFile(f.path(name))
	f.check(err)
	return string(content)
}

func TestSettingChangesAreFollowed(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.startWithWholeSet()
	if _, err := f.nsdb.Setting(ctx, spec.SettingDefault, "log-level"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a setting that is not set: %v", err)
	}
	f.check(f.nsdb.SetSetting(ctx, spec.SettingDefault, "log-level", "WARN"))
	f.waitFor("the default's value", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "warn" && hasWholeBinding(d)
	})
	f.write(f.dir, "config/hosts/h.yaml", "# mine\nlog-level: debug # for now\nstatus-interval: 1m\n")
	f.waitFor("the host's value", func(d spec.Desired) bool {
		return d.Settings["log-level"] == "debug" && d.Settings["status-interval"] == "1m0s"
	})
	f.check(f.nsdb.SetSetting(ctx, "h", "log-level", "error"))
	f.waitFor("the host's new value", func(d spec.Desired) bool { return d.Settings["log-level"] == "error" })
	want := "# mine\nlog-level: \"error\" # for now\nstatus-interval: 1m\n"
	if got := f.read("config/hosts/h.yaml"); got != want {
		t.Errorf("got %q", got)
	}
	if value, err := f.nsdb.Setting(ctx, "h", "log-level"); value != "error" || err != nil {
		t.Errorf("got %q %v", value, err)
	}
	f.remove("config/hosts/h.yaml")
	f.waitFor("the default's value again", func(d spec.Desired) bool {
		_, still := d.Settings["status-interval"]
		return d.Settings["log-level"] == "warn" && !still
	})
	f.rename(".", "../away")
	d := f.waitFor("an unread host", func(d spec.Desired) bool { return d.Unread != "" })
	if d.Settings["log-level"] != "warn" {
		t.Errorf("the settings are lost with the directory: %v", d.Settings)
	}
}

func TestSetHostKeepsCommentsAndMode(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.write(f.dir, "hosts/h.yaml", "# ours\nid: h\nname: left\n")
	f.check(os.Chmod(f.path("hosts/h.yaml"), 0o640))
	f.check(f.nsdb.SetHost(ctx, "h", spec.HostWeight, 0))
	f.check(f.nsdb.SetHost(ctx, "h", spec.HostLimit, 12))
	f.check(f.nsdb.SetHost(ctx, "h", spec.HostWeight, 5))
	want := "# ours\nid: h\nname: left\ncontainerWeight: 5\ncontainerLimit: 12\n"
	if got := f.read("hosts/h.yaml"); got != want {
		t.Errorf("got %q", got)
	}
	if stat, err := os.Stat(f.path("hosts/h.yaml")); err != nil || stat.Mode() != 0o640 {
		t.Errorf("%v %v", stat.Mode(), err)
	}
	if err := f.nsdb.SetHost(ctx, "x", spec.HostWeight, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a host was created: %v", err)
	}
	if left, _ := filepath.Glob(f.path("hosts/.*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestRefusedWriteErrorIsOneLine(t *testing.T) {
	rows := []struct {
		name, file, content, want string
		set                       func(*NSDB, context.Context) error
	}{
		{
			"a YAML file that cannot be edited", "hosts/h.yaml", "id: h\n...\n",
			"hosts/h.yaml: containerWeight not written: its comments or layout would be lost: edit the file by hand",
			weight(1),
		},
		{"a file with a YAML error", "hosts/h.yaml", "id: [", "hosts/h: is not YAML", weight(1)},
		{"two files", "hosts/h.json", `{"id":"h"}`, "h.yaml and h.json are files of one object", weight(1)},
		{
			"an unknown setting", "", "", `setting "loglevel": allowed: log-level, `,
			setting("default", "loglevel", "info"),
		},
		{"a bad value", "", "", `log-level "loud": allowed: debug`, setting("default", "log-level", "loud")},
		{"a bad scope", "", "", `scope "../x": allowed: default`, setting("../x", "log-level", "info")},
		{"a bad weight", "", "", `container-weight "-1": allowed: 0`, weight(-1)},
		{
			"a bad field", "", "", `host field "id": allowed: container-weight, container-limit`,
			func(n *NSDB, ctx context.Context) error { return n.SetHost(ctx, "h", "id", 1) },
		},
		{
			"an import of an unknown key", "", "", `key "ports/p": allowed: hosts/<id>`,
			func(n *NSDB, ctx context.Context) error {
				return n.Import(ctx, []spec.Object{
					{Key: "hosts/z", Value: json.RawMessage(`{"id":"z"}`)}, {Key: "ports/p"},
				})
			},
		},
		{"an export of a file that cannot be read", "groups/g.yaml", "a: *b", "groups/g: is not YAML", export},
		{"an export of a file whose name is not an id", "groups/a b.yaml", "{}", `"a b"`, export},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t)
			if row.file != "" {
				f.write(f.dir, row.file, row.content)
			}
			err := row.set(f.nsdb, t.Context())
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
			if row.file != "" && f.read(row.file) != row.content {
				t.Error("the file was changed")
			}
			if _, err := os.Stat(f.path("hosts/z.yaml")); err == nil {
				t.Error("a part of the import was written")
			}
		})
	}
	t.Run("no directory", func(t *testing.T) {
		f := newFixture(t)
		f.remove(".")
		for _, err := range []error{weight(1)(f.nsdb, t.Context()), export(f.nsdb, t.Context())} {
			if want := "NSDB directory " + f.dir + ": no such file or directory"; err == nil || err.Error() != want {
				t.Errorf("got %v", err)
			}
		}
	})
}

func weight(n int) func(*NSDB, context.Context) error {
	return func(nsdb *NSDB, ctx context.Context) error { return nsdb.SetHost(ctx, "h", spec.HostWeight, n) }
}

func setting(scope spec.SettingScope, key, value string) func(*NSDB, context.Context) error {
	return func(n *NSDB, ctx context.Context) error { return n.SetSetting(ctx, scope, key, value) }
}

func export(n *NSDB, ctx context.Context) error { _, err := n.Export(ctx); return err }

func TestExportedObjectsCanBeImported(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.write(f.dir, "configurations/k.yaml",
		"# secret\nid: k\npsk: \"yes\"\nbig: 18446744073709551617\nlist:\n  - a: 1.10\n")
	f.write(f.dir, "groups/g.json", `{"id":"g","policy":"weighted","hostIds":["h"]}`)
	f.write(f.dir, "bindings/x/q.yml", "{portId: q, hostId: x, interfaceName: tap0}")
	f.write(f.dir, "config/default.yaml", "log-level: info")
	f.write(f.dir, "status/hosts/h.json", "{")
	f.write(f.dir, "hosts/.h.yaml.swp", "{")
	f.write(f.dir, "README.md", "# objects")
	objects, err := f.nsdb.Export(ctx)
	f.check(err)
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.Key)
	}
	want := []string{
		"bindings/h/p", "bindings/x/q", "config/default", "configurations/k", "containers/c", "groups/g", "hosts/h",
	}
	if !slices.Equal(keys, want) {
		t.Fatalf("got %v", keys)
	}

	other := newNSDBBeside(f, "other")
	f.check(other.Import(ctx, objects))
	again, err := other.Export(ctx)
	f.check(err)
	if fmt.Sprintf("%s", again) != fmt.Sprintf("%s", objects) {
		t.Errorf("got  %s\nwant %s", again, objects)
	}
	stat, err := os.Stat(filepath.Join(other.location.Dir, "configurations/k.yaml"))
	if err != nil || stat.Mode() != 0o600 {
		t.Errorf("the file of a configuration: %v", err)
	}
	if findings, err := Validate(other.location.Dir); err != nil || len(findings) != 1 { // hosts/x does not exist
		t.Errorf("got %v %v", findings, err)
	}

	// An import of the same objects changes no file, so comments are kept.
	f.check(f.nsdb.Import(ctx, objects))
	if text := f.read("configurations/k.yaml"); !strings.HasPrefix(text, "# secret") {
		t.Errorf("got %s", text)
	}
}

func newNSDBBeside(f *fixture, name string) *NSDB {
	location := f.nsdb.location
	location.Dir = filepath.Join(f.TempDir(), name)
	return Open(location, "h", f.nsdb.log)
}

func TestConcurrentCommandsLoseNoWrites(t *testing.T) {
	f := newFixture(t)
	var commands sync.WaitGroup
	const n = 10
	for i := range n {
		commands.Go(func() {
			key := fmt.Sprintf("log-level.containers.t%d", i)
			if err := newCommand(f).SetSetting(t.Context(), spec.SettingDefault, key, "debug"); err != nil {
				t.Error(err)
			}
		})
	}
	commands.Wait()
	if lines := strings.Count(f.read("config/default.yaml"), "\n"); lines != n {
		t.Errorf("%d of %d settings were written", lines, n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := f.nsdb.withLock(t.Context(), func() error {
		return newCommand(f).SetSetting(ctx, spec.SettingDefault, "log-level", "debug")
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCommandWritesThroughALinkToTheDirectory(t *testing.T) {
	f := newFixture(t)
	location := f.nsdb.location
	location.Dir = filepath.Join(t.TempDir(), "nsdb")
	if err := os.Symlink(f.nsdb.location.Dir, location.Dir); err != nil {
		t.Fatal(err)
	}
	linked := Open(location, "h", f.nsdb.log)
	if err := linked.SetSetting(t.Context(), spec.SettingDefault, "log-level", "debug"); err != nil {
		t.Fatal(err)
	}
	if got := f.read("config/default.yaml"); !strings.Contains(got, "debug") {
		t.Errorf("%q", got)
	}
}

// newCommand opens the NSDB of the fixture again, as another process would.
func newCommand(f *fixture) *NSDB { return Open(f.nsdb.location, "h", f.nsdb.log) }

func TestWriteKeepsLinkToFile(t *testing.T) {
	f := newFixture(t)
	f.rename("hosts/h.yaml", "hosts.h")
	f.check(os.Symlink("../hosts.h", f.path("hosts/h.yaml")))
	f.check(f.nsdb.SetHost(t.Context(), "h", spec.HostWeight, 4))
	if stat, err := os.Lstat(f.path("hosts/h.yaml")); err != nil || stat.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if got := f.read("hosts.h"); got != "id: h\ncontainerWeight: 4\n" {
		t.Errorf("got %q", got)
	}
}

// Every user who can read the directory can lock it, so such a lock must not block the commands.
func TestLockOnDirectoryDoesNotBlockCommands(t *testing.T) {
	f := newFixture(t)
	holder, err := os.Open(f.path("."))
	f.check(err)
	defer holder.Close()
	f.check(unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	ctx, cancel := context.WithTimeout(t.Context(), commandLockTimeout/2)
	defer cancel()
	f.check(f.nsdb.withLock(ctx, func() error { return nil }))
}
