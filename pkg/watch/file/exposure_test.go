package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestExposuresNamePathAndRemedy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root: to change the owner of a file")
	}
	const write, read = "others than root can write the directory", "others than root can read the keys"
	key := map[string]string{"configurations/key.yaml": "{id: key, connections: [{psk: hunter2}]}"}
	rows := []struct {
		name   string
		expose func(dir string) error
		want   []string // path below the directory, then a part of the reason
	}{
		{"nothing", func(string) error { return nil }, nil},
		{
			"a directory that everybody can write",
			func(dir string) error { return os.Chmod(dir+"/bindings/h", 0o777) }, []string{"bindings/h", write},
		},
		{
			"a directory with the sticky bit", func(dir string) error {
				return os.Chmod(dir+"/hosts", 0o777|os.ModeSticky)
			},
			[]string{"hosts", write},
		},
		{
			"a directory that a group can write", func(dir string) error { return os.Chmod(dir+"/config", 0o775) },
			[]string{"config", write},
		},
		{
			"a directory of another user", func(dir string) error { return os.Chown(dir+"/configurations", 1, 0) },
			[]string{"configurations", write},
		},
		{"the NSDB directory itself", func(dir string) error { return os.Chmod(dir, 0o757) }, []string{"", write}},
		{
			"keys that everybody can read", func(dir string) error {
				return os.Chmod(dir+"/configurations/key.yaml", 0o644)
			},
			[]string{"configurations/key.yaml", read},
		},
		{
			"keys that a group can read", func(dir string) error {
				return os.Chmod(dir+"/configurations/key.yaml", 0o640)
			},
			[]string{"configurations/key.yaml", read},
		},
		{
			"keys of another user", func(dir string) error { return os.Chown(dir+"/configurations/key.yaml", 1, 0) },
			[]string{"configurations/key.yaml", read},
		},
		{
			"a configuration without keys", func(dir string) error {
				return os.Chmod(dir+"/configurations/k.yaml", 0o644)
			}, nil,
		},
		{"a link to keys that everybody can read", func(dir string) error {
			return errors.Join(os.Rename(dir+"/configurations/key.yaml", dir+"/store"), os.Chmod(dir+"/store", 0o644),
				os.Symlink("../store", dir+"/configurations/key.yaml"))
		}, []string{"configurations/key.yaml", read}},
		{"a directory and a file", func(dir string) error {
			return errors.Join(os.Chmod(dir+"/configurations/key.yaml", 0o644), os.Chmod(dir+"/configurations", 0o777))
		}, []string{"configurations", write, "configurations/key.yaml", read}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			dir := writeDirectory(t, validObjects, map[string]string{"configurations/k.yaml": "id: k"}, key)
			if err := errors.Join(os.Chmod(dir+"/configurations/key.yaml", 0o600), row.expose(dir)); err != nil {
				t.Fatal(err)
			}
			exposures, err := Exposures(dir)
			if err != nil || len(exposures) != len(row.want)/2 {
				t.Fatalf("got %v %v", exposures, err)
			}
			for i, e := range exposures {
				if e.Path != filepath.Join(dir, row.want[2*i]) || !strings.Contains(e.Reason, row.want[2*i+1]) ||
					!strings.Contains(e.Reason, "chown it to root") {
					t.Errorf("got %v, want %s", e, row.want[2*i:2*i+2])
				}
			}
		})
	}
}

func TestExposureIsLoggedAgainWhenItComesBack(t *testing.T) {
	f := newFixture(t)
	f.nsdb.location.Rescan = 100 * time.Millisecond
	f.write(f.dir, "configurations/k.yaml", "{id: k, psk: hunter2}")
	f.check(os.Chmod(f.path("configurations/k.yaml"), 0o644))
	f.check(os.Chmod(f.path("bindings"), 0o777))
	warnings := func() int { return f.logged("WARN NSDB is exposed") }
	until := func(what string, n int) {
		t.Helper()
		for end := time.Now().Add(deadline); warnings() != n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: want %d warnings: %q", what, n, f.log)
			}
		}
	}
	f.run()
	until("at the start", 2)
	f.write(f.dir, bindingP, withMAC)
	f.waitFor("an edit", func(d spec.Desired) bool { return mac(d) == editedMAC })
	until("after a change of another object", 2)
	f.check(os.Chmod(f.path("bindings"), 0o755))
	f.waitForLaterChange()
	f.check(os.Chmod(f.path("bindings"), 0o777))
	until("when it came back", 3)
	if f.logged("hunter2") > 0 {
		t.Errorf("the key is logged: %q", f.log)
	}
}
