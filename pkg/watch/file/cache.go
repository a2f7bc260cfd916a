package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// cache has the accepted content of the NSDB directory. It is the native.Reader of the assembler: while a file is
// changing, it returns the content that was accepted last. It must be used by one goroutine only.
type cache struct {
	dir    string
	host   spec.HostID
	timing timing

	entries     map[native.Key]*entry
	directories map[string]signature // at the last scan; the zero signature for a directory that did not exist
	bindings    []string             // the last result of Bindings, sorted
	pending     map[native.Key]bool  // keys to check in every scan: not accepted yet, or not readable
	assembler   *native.Assembler

	changed      map[native.Key]bool   // keys with an event since the last scan
	renamedFiles map[native.Key]string // by key, the file that was renamed into place since then and not modified later
	scanAll      bool                  // events were lost, or named a directory: the next scan must check all files

	settings      map[string]string // of the last scan, so that they stay in effect if the directory disappears
	hostReadable  bool              // the host was readable in the last stable set
	readableSince time.Time         // when the host became readable after an unread set
	changedAt     time.Time         // when a directory was last found changed
	missingSince  time.Time         // when the NSDB directory was first found missing
	writingSince  time.Time         // the first of the successive scans that found a file being written

	// The fields below belong to the current scan.

	files              *nsdbDir
	now                time.Time
	nextScan           time.Time           // when the next scan is due; zero: at the rescan
	beingWritten       bool                // at least one file is being written
	holdSet            bool                // the set must wait: timing.maxHold has not passed for one of these files
	hostRemovalPending bool                // the object of the host is missing, and its removal is not accepted yet
	scanID             uint64              // increases with each scan
	toCheck            map[native.Key]bool // the keys whose files the scan checks; nil: all
}

func newCache(dir string, host spec.HostID, timing timing) *cache {
	c := &cache{
		dir: dir, host: host, timing: timing,
		entries:      map[native.Key]*entry{},
		directories:  map[string]signature{},
		pending:      map[native.Key]bool{},
		changed:      map[native.Key]bool{},
		renamedFiles: map[native.Key]string{},
	}
	c.assembler = native.NewAssembler(c, host)
	return c
}

// scanResult is the result of one scan of the NSDB directory.
type scanResult struct {
	complete bool // all files were checked; false also if the directory could not be opened
	stable   bool // desired may be passed on; otherwise the previous set stays valid
	desired  spec.Desired
	faults   []native.Fault
	nextScan time.Time // when the next scan is due; zero: at the rescan
}

// fullScan checks all files.
func (c *cache) fullScan(ctx context.Context, now time.Time) scanResult {
	c.changed, c.scanAll, c.toCheck = map[native.Key]bool{}, false, nil
	return c.scan(ctx, now)
}

// partialScan checks the files with an event since the last scan and the files of pending keys, so its cost does not
// grow with the number of objects. If the events are not sufficient, it checks all files.
func (c *cache) partialScan(ctx context.Context, now time.Time) scanResult {
	if c.scanAll || !c.hostReadable {
		return c.fullScan(ctx, now)
	}
	c.toCheck, c.changed = c.changed, map[native.Key]bool{}
	maps.Copy(c.toCheck, c.pending)
	return c.scan(ctx, now)
}

func (c *cache) scan(ctx context.Context, now time.Time) scanResult {
	c.now, c.nextScan, c.beingWritten, c.holdSet, c.hostRemovalPending = now, time.Time{}, false, false, false
	c.scanID++
	reason := c.open()
	if reason != "" {
		c.scanAll = true // the files with events were not checked
		if c.hostReadable && !c.missingSince.IsZero() && !c.elapsed(c.missingSince, c.timing.removalDelay) {
			return scanResult{nextScan: c.nextScan}
		}
		c.reset()
		return scanResult{
			stable:  true,
			desired: spec.Desired{Unread: reason, Host: spec.Host{ID: c.host}, Settings: c.settings},
			faults:  []native.Fault{{Key: native.HostKey(c.host), Text: reason}},
		}
	}
	defer c.files.close()
	defer clear(c.renamedFiles)
	c.checkDirectories()
	desired, faults := c.assembler.Assemble(ctx, c.toCheck)
	c.settings = desired.Settings
	complete := c.toCheck == nil
	if desired.Unread == "" {
		c.dropUnused()
	} else {
		c.scanAll = true // Assemble stopped at the host object and did not read the changed objects
	}
	stable := c.stable(desired.Unread == "")
	return scanResult{complete, stable, desired, faults, c.nextScan}
}

// open opens the NSDB directory for one scan. If it cannot be opened, open returns the reason.
func (c *cache) open() (reason string) {
	files, err := openDirectory(c.dir)
	if !errors.Is(err, fs.ErrNotExist) {
		c.missingSince = time.Time{}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c.missingSince.IsZero() {
			c.missingSince = c.now
		}
		return fmt.Sprintf("the directory %s does not exist", c.dir)
	case errors.Is(err, errNotDirectory):
		return fmt.Sprintf("%s is not a directory", c.dir)
	case err != nil:
		return fmt.Sprintf("the directory %s cannot be read: %s", c.dir, cause(err))
	}
	c.files = files
	files.listDirs = c.toCheck == nil
	return ""
}

// stable reports whether the set of the current scan may be passed on. readable is false if the host could not be read.
// The set is held back in these cases:
//
//   - Files in it are being written (for a limited time), so that a change of several files becomes one set.
//   - The object of the host is missing and its removal is not accepted yet. The whole directory may be about to
//     disappear.
//   - The host is readable, and was not before, but the directories are still changing. A directory that is being
//     filled may contain the Host object before it contains all bindings, and there is no accepted content for the
//     missing ones.
func (c *cache) stable(readable bool) bool {
	if !c.beingWritten {
		c.writingSince = time.Time{}
	} else if c.writingSince.IsZero() {
		c.writingSince = c.now
	}
	if c.hostRemovalPending || c.holdSet && !c.elapsed(c.writingSince, c.timing.maxUnstable) {
		return false
	}
	switch {
	case !readable:
		c.reset()
		return true
	case !c.hostReadable:
		if c.readableSince.IsZero() {
			c.readableSince = c.now
		}
		if !c.directoriesStable(c.readableSince) {
			return false
		}
	}
	c.hostReadable = true
	return true
}

// reset is called for an unread set, whose scan did not check the objects. All removal delays start again, and the next
// readable set is held back as the first one is.
func (c *cache) reset() {
	c.hostReadable, c.readableSince = false, time.Time{}
	for _, e := range c.entries {
		e.missingSince = time.Time{}
	}
}

// directoriesStable reports whether no directory has changed for timing.removalDelay. If they keep changing, it returns
// true from timing.maxUnstable after since on.
func (c *cache) directoriesStable(since time.Time) bool {
	if c.now.Sub(since) >= c.timing.maxUnstable {
		return true
	}
	return c.elapsed(c.changedAt, c.timing.removalDelay)
}

// elapsed reports whether d has passed since the given time. If not, it schedules a scan for the time when it will
// have.
func (c *cache) elapsed(since time.Time, d time.Duration) bool {
	due := since.Add(d)
	if !c.now.Before(due) {
		return true
	}
	c.scheduleScan(due)
	return false
}

func (c *cache) scheduleScan(due time.Time) {
	if c.nextScan.IsZero() || due.Before(c.nextScan) {
		c.nextScan = due
	}
}

// dropUnused removes the entries that the current set does not refer to. A partial scan removes only keys in toCheck,
// since it did not ask for the others.
func (c *cache) dropUnused() {
	drop := maps.Keys(c.entries)
	if c.toCheck != nil {
		drop = maps.Keys(c.toCheck)
	}
	for key := range drop {
		if e := c.entries[key]; e == nil || e.lastScan != c.scanID {
			delete(c.entries, key)
			delete(c.pending, key)
		}
	}
}
