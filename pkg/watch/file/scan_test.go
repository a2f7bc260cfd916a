package file

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// These tests scan at chosen times: the result depends on the time that is passed to the scan, not on the clock.

// newScanFixture returns a fixture, an empty cache for its directory, and the current time.
func newScanFixture(t *testing.T) (*fixture, *cache, time.Time) {
	f := newFixture(t)
	return f, newCache(f.dir, "h", defaultTiming), time.Now()
}

func TestFirstScanOfUnchangedDirectoryIsStable(t *testing.T) {
	_, c, now := newScanFixture(t)
	if result := c.fullScan(t.Context(), now.Add(time.Second)); !result.stable || !hasWholeBinding(result.desired) {
		t.Errorf("got %+v", result)
	}
}

func TestChangedDirectoryIsScannedAgain(t *testing.T) {
	_, c, now := newScanFixture(t)
	result := c.fullScan(t.Context(), now)
	if result.stable || result.nextScan.After(now.Add(defaultTiming.removalDelay)) || result.nextScan.IsZero() {
		t.Fatalf("got %+v", result)
	}
	result = c.fullScan(t.Context(), now.Add(defaultTiming.removalDelay))
	if !result.stable || !hasWholeBinding(result.desired) {
		t.Errorf("after the removal delay: %+v", result)
	}
}

func TestClockSetBackOnlyDelaysTheSet(t *testing.T) {
	_, c, now := newScanFixture(t)
	begin := now.Add(-time.Hour) // the times of all files are in the future
	if result := c.fullScan(t.Context(), begin); result.stable {
		t.Fatalf("at once: %+v", result)
	}
	for now := begin; now.Before(begin.Add(2 * time.Second)); now = now.Add(defaultTiming.debounce) {
		if result := c.fullScan(t.Context(), now); result.stable {
			if !hasWholeBinding(result.desired) {
				t.Errorf("got %+v", result)
			}
			return
		}
	}
	t.Error("the set was never stable")
}

func TestFileOpenForWritingIsReadAfterTimeout(t *testing.T) {
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
	if !result.stable || !hasWholeBinding(result.desired) || mac(result.desired) != "" {
		t.Errorf("after maxHold the old content stays in use: got %+v", result)
	}
	result = c.fullScan(t.Context(), now.Add(defaultTiming.writerTimeout))
	if !result.stable || mac(result.desired) != editedMAC {
		t.Errorf("after writerTimeout: %+v", result)
	}
}

func TestNewFileOpenForWritingBecomesUnknown(t *testing.T) {
	f, c, now := newScanFixture(t)
	now = now.Add(time.Second)
	file, err := os.OpenFile(f.path("containers/c.yaml"), os.O_WRONLY, 0)
	f.check(err)
	defer file.Close()
	if result := c.fullScan(t.Context(), now); result.stable {
		t.Errorf("at once: %+v", result)
	}
	result := c.fullScan(t.Context(), now.Add(defaultTiming.maxHold))
	b := find(result.desired, "p")
	if !result.stable || b == nil || b.Reading != spec.Unknown || !strings.Contains(b.Fault, "is being written") {
		t.Errorf("got %+v", result)
	}
}

func TestRemovalInChangingDirectoryIsAcceptedEventually(t *testing.T) {
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
			t.Fatal("the removal was never accepted")
		}
	}
	if took := now.Sub(begin); took < defaultTiming.maxUnstable {
		t.Errorf("the removal was accepted after %v", took)
	}
	if result.desired.Unread != "" {
		t.Errorf("got %+v", result)
	}
}

func TestNoRemovalIsAcceptedWhileHostObjectIsMissing(t *testing.T) {
	f, c, now := newScanFixture(t)
	now = now.Add(time.Second)
	c.fullScan(t.Context(), now)
	f.remove(bindingP)
	c.fullScan(t.Context(), now)
	now = now.Add(defaultTiming.removalDelay * 9 / 10)
	f.remove("hosts") // shortly before the removal of the binding would be accepted
	c.fullScan(t.Context(), now)
	for range 20 {
		now = now.Add(defaultTiming.removalDelay / 10)
		result := c.fullScan(t.Context(), now)
		if result.stable && result.desired.Unread == "" && !hasWholeBinding(result.desired) {
			t.Fatalf("got %+v", result)
		}
		if result.stable && result.desired.Unread != "" {
			return
		}
	}
	t.Error("the host was never unread")
}

// This test is not parallel, so that no other test has inotify instances meanwhile.
func TestWatchesAreReleased(t *testing.T) {
	count := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if link, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil &&
				strings.Contains(link, "inotify") {
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
		f.writeObjects(f.dir)
		hints.update(c.watchPaths())
		if n := count(); n != before+1 {
			t.Fatalf("%d inotify instances", n-before)
		}
		if n := len(hints.inotify.paths); n != 7 {
			t.Errorf("%d watches", n)
		}
		f.remove("")
	}
	hints.close()
	if n := count(); n != before {
		t.Errorf("%d inotify instances are left", n-before)
	}
}
