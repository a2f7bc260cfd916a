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
func newScanFixture(t *testing.T) (*fixture, *cache, time.Time) {
	f := newFixture(t)
	return f, newCache(f.dir, "h", defaultTiming), time.Now()
}

func TestTheFirstLookAtADirectoryThatRestsIsEnough(t *testing.T) {
	_, c, now := newScanFixture(t)
	if result := c.fullScan(t.Context(), now.Add(time.Second)); !result.stable || !whole(result.desired) {
		t.Errorf("got %+v", result)
	}
}

func TestADirectoryThatJustChangedIsLookedAtAgain(t *testing.T) {
	_, c, now := newScanFixture(t)
	result := c.fullScan(t.Context(), now)
	if result.stable || result.nextScan.After(now.Add(defaultTiming.removalDelay)) || result.nextScan.IsZero() {
		t.Fatalf("got %+v", result)
	}
	if result := c.fullScan(t.Context(), now.Add(defaultTiming.removalDelay)); !result.stable || !whole(result.desired) {
		t.Errorf("after it rested: %+v", result)
	}
}

func TestAClockThatWasSetBackCostsAMomentOnly(t *testing.T) {
	_, c, now := newScanFixture(t)
	begin := now.Add(-time.Hour) // every file is from the future
	if result := c.fullScan(t.Context(), begin); result.stable {
		t.Fatalf("at once: %+v", result)
	}
	for now := begin; now.Before(begin.Add(2 * time.Second)); now = now.Add(defaultTiming.debounce) {
		if result := c.fullScan(t.Context(), now); result.stable {
			if !whole(result.desired) {
				t.Errorf("got %+v", result)
			}
			return
		}
	}
	t.Error("it was never believed")
}

func TestAFileThatIsOpenForWritingIsNotBelievedForLong(t *testing.T) {
	f, c, now := newScanFixture(t)
	now = now.Add(time.Second)
	c.fullScan(t.Context(), now)
	file, err := os.OpenFile(f.path(bindingP), os.O_WRONLY|os.O_TRUNC, 0)
	f.check(err)
	defer file.Close()
	_, err = file.WriteString(withMAC)
	f.check(err)

	now = now.Add(time.Minute)
	result := c.fullScan(t.Context(), now)
	if result.stable {
		t.Errorf("at once: %+v", result)
	}
	result = c.fullScan(t.Context(), now.Add(defaultTiming.maxHold))
	if !result.stable || !whole(result.desired) || mac(result.desired) != "" {
		t.Errorf("the other objects go on with the old one: %+v", result)
	}
	result = c.fullScan(t.Context(), now.Add(defaultTiming.writerTimeout))
	if !result.stable || mac(result.desired) != editedMAC {
		t.Errorf("a writer that only holds it: %+v", result)
	}
}

func TestANewFileThatIsOpenForWritingIsUnknownInTheEnd(t *testing.T) {
	f, c, now := newScanFixture(t)
	now = now.Add(time.Second)
	file, err := os.OpenFile(f.path("containers/c.yaml"), os.O_WRONLY, 0)
	f.check(err)
	defer file.Close()
	if result := c.fullScan(t.Context(), now); result.stable {
		t.Errorf("at once: %+v", result)
	}
	result := c.fullScan(t.Context(), now.Add(defaultTiming.maxHold))
	if b := find(result.desired, "p"); !result.stable || b == nil || b.Reading != spec.Unknown || !strings.Contains(b.Fault, "is being written") {
		t.Errorf("got %+v", result)
	}
}

func TestANameMissingFromADirectoryThatNeverRestsIsGoneInTheEnd(t *testing.T) {
	f, c, now := newScanFixture(t)
	now = now.Add(time.Second)
	c.fullScan(t.Context(), now)
	f.remove(bindingP)
	begin := now
	var result scanResult
	for i := 0; ; i++ {
		f.write(f.dir, fmt.Sprintf("containers/x%d.yaml", i), "")
		result = c.fullScan(t.Context(), now)
		if find(result.desired, "p") == nil {
			break
		}
		now = now.Add(defaultTiming.removalDelay / 2)
		if i > 100 {
			t.Fatal("it never went")
		}
	}
	if took := now.Sub(begin); took < defaultTiming.maxUnstable {
		t.Errorf("it went after %v", took)
	}
	if result.desired.Unread != "" {
		t.Errorf("got %+v", result)
	}
}

func TestWhileTheHostObjectIsInDoubtNothingElseIsBelievedGone(t *testing.T) {
	f, c, now := newScanFixture(t)
	now = now.Add(time.Second)
	c.fullScan(t.Context(), now)
	f.remove(bindingP)
	c.fullScan(t.Context(), now)
	now = now.Add(defaultTiming.removalDelay * 9 / 10)
	f.remove("hosts") // the rest follows late
	c.fullScan(t.Context(), now)
	for range 20 {
		now = now.Add(defaultTiming.removalDelay / 10)
		result := c.fullScan(t.Context(), now)
		if result.stable && result.desired.Unread == "" && !whole(result.desired) {
			t.Fatalf("got %+v", result)
		}
		if result.stable && result.desired.Unread != "" {
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
	f := &fixture{T: t, dir: t.TempDir() + "/nsdb"}
	hints := newDirWatches(nil)
	c := newCache(f.dir, "h", defaultTiming)
	for range 20 {
		f.fill(f.dir)
		hints.update(c.watchPaths())
		if n := count(); n != before+1 {
			t.Fatalf("%d instances of inotify", n-before)
		}
		if n := len(hints.inotify.paths); n != 7 {
			t.Errorf("%d watches", n)
		}
		f.remove("")
	}
	hints.close()
	if n := count(); n != before {
		t.Errorf("%d instances are left", n-before)
	}
}
