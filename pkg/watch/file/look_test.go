package file

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// These tests look at moments of their own choice: what is believed depends on the time that is handed in.

// looker is the usual directory, and a tree that was not looked at yet.
func looker(t *testing.T) (*ground, *tree, time.Time) {
	g := newGround(t)
	return g, newTree(g.dir, "h", usualPatience), time.Now()
}

func TestTheFirstLookAtADirectoryThatRestsIsEnough(t *testing.T) {
	_, tree, now := looker(t)
	if look := tree.look(t.Context(), now.Add(time.Second)); !look.firm || !whole(look.desired) {
		t.Errorf("got %+v", look)
	}
}

func TestADirectoryThatJustChangedIsLookedAtAgain(t *testing.T) {
	_, tree, now := looker(t)
	look := tree.look(t.Context(), now)
	if look.firm || look.again.After(now.Add(usualPatience.doubt)) || look.again.IsZero() {
		t.Fatalf("got %+v", look)
	}
	if look := tree.look(t.Context(), now.Add(usualPatience.doubt)); !look.firm || !whole(look.desired) {
		t.Errorf("after it rested: %+v", look)
	}
}

func TestAClockThatWasSetBackCostsAMomentOnly(t *testing.T) {
	_, tree, now := looker(t)
	begin := now.Add(-time.Hour) // every file is from the future
	if look := tree.look(t.Context(), begin); look.firm {
		t.Fatalf("at once: %+v", look)
	}
	for now := begin; now.Before(begin.Add(2 * time.Second)); now = now.Add(usualPatience.settle) {
		if look := tree.look(t.Context(), now); look.firm {
			if !whole(look.desired) {
				t.Errorf("got %+v", look)
			}
			return
		}
	}
	t.Error("it was never believed")
}

func TestAFileThatIsOpenForWritingIsNotBelievedForLong(t *testing.T) {
	g, tree, now := looker(t)
	now = now.Add(time.Second)
	tree.look(t.Context(), now)
	file, err := os.OpenFile(g.path(bindingP), os.O_WRONLY|os.O_TRUNC, 0)
	g.check(err)
	defer file.Close()
	_, err = file.WriteString(withMAC)
	g.check(err)

	now = now.Add(time.Minute)
	look := tree.look(t.Context(), now)
	if look.firm {
		t.Errorf("at once: %+v", look)
	}
	look = tree.look(t.Context(), now.Add(usualPatience.hold))
	if !look.firm || !whole(look.desired) || mac(look.desired) != "" {
		t.Errorf("the other objects go on with the old one: %+v", look)
	}
	look = tree.look(t.Context(), now.Add(usualPatience.writer))
	if !look.firm || mac(look.desired) != edited {
		t.Errorf("a writer that only holds it: %+v", look)
	}
}

func TestANewFileThatIsOpenForWritingIsUnknownInTheEnd(t *testing.T) {
	g, tree, now := looker(t)
	now = now.Add(time.Second)
	file, err := os.OpenFile(g.path("containers/c.yaml"), os.O_WRONLY, 0)
	g.check(err)
	defer file.Close()
	if look := tree.look(t.Context(), now); look.firm {
		t.Errorf("at once: %+v", look)
	}
	look := tree.look(t.Context(), now.Add(usualPatience.hold))
	if b := find(look.desired, "p"); !look.firm || b == nil || b.Reading != spec.Unknown || !strings.Contains(b.Fault, "is being written") {
		t.Errorf("got %+v", look)
	}
}

func TestANameMissingFromADirectoryThatNeverRestsIsGoneInTheEnd(t *testing.T) {
	g, tree, now := looker(t)
	now = now.Add(time.Second)
	tree.look(t.Context(), now)
	g.remove(bindingP)
	begin := now
	var look look
	for i := 0; ; i++ {
		g.write(g.dir, fmt.Sprintf("containers/x%d.yaml", i), "")
		look = tree.look(t.Context(), now)
		if find(look.desired, "p") == nil {
			break
		}
		now = now.Add(usualPatience.doubt / 2)
		if i > 100 {
			t.Fatal("it never went")
		}
	}
	if took := now.Sub(begin); took < usualPatience.busy {
		t.Errorf("it went after %v", took)
	}
	if look.desired.Unread != "" {
		t.Errorf("got %+v", look)
	}
}

func TestWhileTheHostObjectIsInDoubtNothingElseIsBelievedGone(t *testing.T) {
	g, tree, now := looker(t)
	now = now.Add(time.Second)
	tree.look(t.Context(), now)
	g.remove(bindingP)
	tree.look(t.Context(), now)
	now = now.Add(usualPatience.doubt * 9 / 10)
	g.remove("hosts") // the rest follows late
	tree.look(t.Context(), now)
	for range 20 {
		now = now.Add(usualPatience.doubt / 10)
		look := tree.look(t.Context(), now)
		if look.firm && look.desired.Unread == "" && !whole(look.desired) {
			t.Fatalf("got %+v", look)
		}
		if look.firm && look.desired.Unread != "" {
			return
		}
	}
	t.Error("the host was never unread")
}

// Not parallel, so that no other test has watches meanwhile.
func TestWatchesAreGivenBack(t *testing.T) {
	count := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if link, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.Contains(link, "inotify") {
				n++
			}
		}
		return n
	}
	before := count()
	g := &ground{T: t, dir: t.TempDir() + "/nsdb"}
	hints := newHints(nil)
	tree := newTree(g.dir, "h", usualPatience)
	for range 20 {
		g.fill(g.dir)
		hints.follow(tree.watched())
		if n := count(); n != before+1 {
			t.Fatalf("%d instances of inotify", n-before)
		}
		if n := len(hints.watcher.paths); n != 7 {
			t.Errorf("%d watches", n)
		}
		g.remove("")
	}
	hints.close()
	if n := count(); n != before {
		t.Errorf("%d instances are left", n-before)
	}
}
