package file

import (
	"os"
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
		if got := tree.concerns(row.path); got != row.want {
			t.Errorf("%s: %v", row.path, got)
		}
	}
}
