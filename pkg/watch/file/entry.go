package file

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// entry has the accepted state of one key, and the observations that may replace it.
type entry struct {
	known     bool // false until a state was accepted for the first time
	absent    bool // there is no file
	document  *native.Document
	fault     error // why there is no document although a file exists
	holdsKeys bool  // the document contains cryptographic keys or passwords

	candidates []candidate // the files from which this state was read; nil: read them again in every scan

	missingSince time.Time   // when the files were first found missing
	writingSince time.Time   // when changed files that are still being written were first found
	pending      []candidate // the changed files at the last scan, not accepted yet
	pendingSince time.Time   // since when pending has not changed

	lastScan uint64 // scanID of the last scan that asked for the key
}

// Get returns the accepted state of a key. If the current scan has to check the key, it checks the files first.
func (c *cache) Get(_ context.Context, key native.Key) (*native.Document, error) {
	e := c.entries[key]
	if e != nil && c.toCheck != nil && !c.toCheck[key] {
		return e.result()
	}
	if e == nil {
		e = new(entry)
		c.entries[key] = e
	}
	// A directory listing may lack a file that is being replaced by a rename. For a known key the listing is
	// sufficient, because a missing file has to stay missing for some time before it counts as removed.
	switch candidates := c.files.candidates(string(key), e.known); {
	case len(candidates) == 0:
		c.noteMissing(key, e)
	case slices.Equal(candidates, e.candidates):
		e.confirm()
	default:
		c.noteChanged(key, e, candidates)
	}
	e.lastScan = c.scanID
	if e.settled() {
		delete(c.pending, key)
	} else {
		c.pending[key] = true
	}
	return e.result()
}

// settled reports whether the entry stays valid until a file of the key changes.
func (e *entry) settled() bool {
	return e.known && e.missingSince.IsZero() && e.writingSince.IsZero() && e.pending == nil &&
		(e.absent || e.candidates != nil)
}

func (e *entry) result() (*native.Document, error) {
	switch {
	case !e.known:
		return nil, errBeingWritten
	case e.absent:
		return nil, native.ErrAbsent
	default:
		return e.document, e.fault
	}
}

// confirm is called when the files are those of the accepted state. It discards the observations since then.
func (e *entry) confirm() {
	e.missingSince, e.writingSince, e.pending = time.Time{}, time.Time{}, nil
}

// noteMissing is called when a key has no file. The accepted state stays until the removal delay has passed. While the
// object of the host is missing and its removal is not accepted, no other removal is accepted either: the whole
// directory may be about to disappear.
func (c *cache) noteMissing(key native.Key, e *entry) {
	e.pending, e.writingSince = nil, time.Time{}
	if !e.known || e.absent {
		*e = entry{known: true, absent: true}
		return
	}
	if e.missingSince.IsZero() {
		e.missingSince = c.now
	}
	gone := c.elapsed(e.missingSince, c.timing.removalDelay) && c.directoriesStable(e.missingSince)
	if key == native.HostKey(c.host) {
		c.hostRemovalPending = !gone
	}
	if gone && !c.hostRemovalPending {
		*e = entry{known: true, absent: true}
	}
}

// noteChanged is called when the files of a key are not those of the accepted state. It accepts them when they have
// been unchanged for long enough. It does not wait for a file that was renamed into place or cannot be an object.
func (c *cache) noteChanged(key native.Key, e *entry, candidates []candidate) {
	e.missingSince = time.Time{}
	if !slices.Equal(candidates, e.pending) {
		e.pending, e.pendingSince = candidates, c.now
	}
	for _, f := range candidates {
		if f.problem != "" {
			*e = entry{known: true, fault: errors.New(f.problem)}
			return
		}
	}
	renamed := len(candidates) == 1 && c.renamedFiles[key] == candidates[0].name
	for _, f := range candidates {
		if !renamed && !f.signature.rested(c.now, c.timing.debounce) && !c.elapsed(e.pendingSince, c.timing.debounce) {
			c.noteWriting(e)
			return
		}
	}
	if len(candidates) > 1 {
		*e = entry{known: true, candidates: candidates, fault: duplicateFiles(candidates)}
		return
	}
	c.accept(key, e, candidates)
}

// noteWriting is called when a file of a key is being written. The set is held back for timing.maxHold.
func (c *cache) noteWriting(e *entry) {
	if e.writingSince.IsZero() {
		e.writingSince = c.now
	}
	c.beingWritten = true
	c.holdSet = !c.elapsed(e.writingSince, c.timing.maxHold) || c.holdSet
}

func duplicateFiles(candidates []candidate) error {
	names := make([]string, len(candidates))
	for i, c := range candidates {
		names[i] = c.name
	}
	return fmt.Errorf("%s are files of one object: allowed: one of them", strings.Join(names, " and "))
}

// accept reads the only file of a key and stores its content, unless the file turns out to be still being written.
func (c *cache) accept(key native.Key, e *entry, candidates []candidate) {
	only := candidates[0]
	_, format, _ := objectName(only.name)
	value, writer, err := c.files.read(path.Join(path.Dir(string(key)), only.name), only.signature)
	if errors.Is(err, errBeingWritten) || writer == hasWriter && !c.elapsed(e.pendingSince, c.timing.writerTimeout) ||
		writer == unknownWriter && !only.signature.rested(c.now, c.timing.debounceNoLease) &&
			!c.elapsed(e.pendingSince, c.timing.debounceNoLease) {
		c.noteWriting(e)
		c.scheduleScan(c.now.Add(c.timing.debounce))
		return
	}
	if err != nil { // an error of the file system, which may disappear without a change of the file
		*e = entry{known: true, fault: err}
		return
	}
	document, err := native.Parse(value, format)
	holdsKeys := false
	if port, ok := strings.CutPrefix(string(key), string(native.BindingsKey(c.host))+"/"); ok && err == nil {
		document = native.ReducePort(document, c.host, spec.PortID(port))
	} else if strings.HasPrefix(string(key), native.Configurations+"/") && err == nil {
		holdsKeys = document.HoldsKeys()
	}
	*e = entry{known: true, document: document, fault: err, candidates: candidates, holdsKeys: holdsKeys}
}
