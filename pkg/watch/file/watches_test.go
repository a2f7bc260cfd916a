package file

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

func TestRescanFindsChangeWithoutEvent(t *testing.T) {
	f := newFixture(t)
	f.nsdb.location.Rescan = 200 * time.Millisecond
	// The directory to which a link of an object leads is not watched.
	f.write(f.dir, "elsewhere/p.yaml", binding("p", "vpn-p", "c"))
	f.remove(bindingP)
	f.check(os.Symlink("../../elsewhere/p.yaml", f.path(bindingP)))
	f.startWithWholeSet()
	f.write(f.dir, "elsewhere/p.yaml", withMAC)
	f.waitFor("the edit", func(d spec.Desired) bool { return mac(d) == editedMAC })
}

func TestEventsFindNewDirectory(t *testing.T) {
	f := newFixture(t)
	f.remove("")
	if d := f.run(); d.Unread == "" {
		t.Fatalf("got %+v", d)
	}
	f.writeObjects(f.dir)
	f.waitFor("the directory", hasWholeBinding)
	f.write(f.dir, bindingP, withMAC)
	f.waitFor("an edit", func(d spec.Desired) bool { return mac(d) == editedMAC })
}

func TestOnlyChangedSetsArePassedOn(t *testing.T) {
	f := newFixture(t)
	f.startWithWholeSet()
	start := f.countSets()
	f.write(f.dir, bindingP, "# a comment\n"+binding("p", "vpn-p", "c"))
	now := time.Now()
	f.check(os.Chtimes(f.path("containers/c.yaml"), now, now))
	f.write(f.dir, "containers/other.yaml", container("other"))
	f.waitForLaterChange()
	if sets := f.setsSince(start); len(sets) != 1 {
		t.Errorf("got %d sets: %+v", len(sets), sets)
	}
}

func TestEventsOfUnusedFilesAreIrrelevant(t *testing.T) {
	c := newCache("/n", "h", defaultTiming)
	for _, key := range []native.Key{"hosts/h", "bindings/h/p", "containers/c", "configurations/k"} {
		c.entries[key] = new(entry) // as after Get for the key
	}
	rows := []struct {
		path string
		want bool
	}{
		{"/n", true},
		{"/n/hosts", true},
		{"/n/bindings", true},
		{"/n/bindings/h", true},
		{"/n/hosts/h.yaml", true},
		{"/n/bindings/h/p.json", true},
		{"/n/bindings/h/new.yml", true},
		{"/n/containers/c.yaml", true},
		{"/n/configurations/k.json", true},
		{"/n/..data", true},
		{"/..data", true},
		{"/n/bindings/h/.p.yaml.swp", false},
		{"/n/bindings/h/p.yaml~", false},
		{"/n/bindings/h/4913", false},
		{"/n/bindings/x", false},
		{"/n/hosts/x.yaml", false},
		{"/n/containers/x.yaml", false},
		{"/n/configurations/x.json", false},
		{"/n/groups", false},
		{"/other", false},
		{"/", false},
	}
	for _, row := range rows {
		if _, got := c.noteEvent(event{path: row.path}); got != row.want {
			t.Errorf("%s: %v", row.path, got)
		}
	}
}

func TestReplacedDirectoryIsOutdated(t *testing.T) {
	dir := t.TempDir()
	watched := []string{dir, filepath.Join(dir, "a")}
	w := newDirWatches(slog.New(slog.DiscardHandler))
	defer w.close()
	check := func(what string, want bool) {
		t.Helper()
		if got := w.outdated(watched); got != want {
			t.Errorf("%s: outdated is %v", what, got)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.update(watched)
	check("a directory that does not exist", false)
	must(os.Mkdir(watched[1], 0o755))
	check("a directory that was created since", true)
	w.update(watched)
	check("a directory that is watched", false)
	must(os.Mkdir(filepath.Join(dir, "b"), 0o755))
	must(os.Rename(watched[1], filepath.Join(dir, "old")))
	must(os.Rename(filepath.Join(dir, "b"), watched[1]))
	check("another directory at its path", true)
	w.update(watched)
	check("the other directory, watched", false)
}
