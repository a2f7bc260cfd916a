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

func TestARescanSeesWhatNoEventTells(t *testing.T) {
	g := newGround(t)
	g.nsdb.location.Rescan = 200 * time.Millisecond
	// Behind a link in the folder, nothing is watched.
	g.write(g.dir, "elsewhere/p.yaml", binding("p", "vpn-p", "c"))
	g.remove(bindingP)
	g.check(os.Symlink("../../elsewhere/p.yaml", g.path(bindingP)))
	g.startsWell()
	g.write(g.dir, "elsewhere/p.yaml", withMAC)
	g.until("the edit", func(d spec.Desired) bool { return mac(d) == edited })
}

func TestADirectoryThatComesIsSeenByEventsAlone(t *testing.T) {
	g := newGround(t)
	g.remove("")
	if d := g.run(); d.Unread == "" {
		t.Fatalf("got %+v", d)
	}
	g.fill(g.dir)
	g.until("the directory", whole)
	g.write(g.dir, bindingP, withMAC)
	g.until("an edit", func(d spec.Desired) bool { return mac(d) == edited })
}

func TestSetsAreHandedOverOnlyWhenTheyDiffer(t *testing.T) {
	g := newGround(t)
	g.startsWell()
	mark := g.mark()
	g.write(g.dir, bindingP, "# a comment\n"+binding("p", "vpn-p", "c"))
	now := time.Now()
	g.check(os.Chtimes(g.path("containers/c.yaml"), now, now))
	g.write(g.dir, "containers/other.yaml", container("other"))
	g.settle()
	if sets := g.since(mark); len(sets) != 1 {
		t.Errorf("got %d sets: %+v", len(sets), sets)
	}
}

func TestEventsOfOthersAreNotOurs(t *testing.T) {
	tree := newTree("/n", "h", usualPatience)
	for _, key := range []native.Key{"hosts/h", "bindings/h/p", "containers/c", "configurations/k"} {
		tree.beliefs[key] = new(belief) // as for every key that was asked for
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
		if _, got := tree.note(event{path: row.path}); got != row.want {
			t.Errorf("%s: %v", row.path, got)
		}
	}
}

func TestADirectoryThatTookAnothersPlaceIsStale(t *testing.T) {
	dir := t.TempDir()
	watched := []string{dir, filepath.Join(dir, "a")}
	h := newHints(slog.New(slog.DiscardHandler))
	defer h.close()
	check := func(what string, want bool) {
		t.Helper()
		if got := h.stale(watched); got != want {
			t.Errorf("%s: stale is %v", what, got)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h.follow(watched)
	check("a directory that does not exist", false)
	must(os.Mkdir(watched[1], 0o755))
	check("one that was made since", true)
	h.follow(watched)
	check("one that is watched", false)
	must(os.Mkdir(filepath.Join(dir, "b"), 0o755))
	must(os.Rename(watched[1], filepath.Join(dir, "old")))
	must(os.Rename(filepath.Join(dir, "b"), watched[1]))
	check("another in its place", true)
	h.follow(watched)
	check("the other, watched", false)
}
