// Package file implements an NSDB as a directory of YAML and JSON files. It needs no server, and any tool may write the
// files.
//
// Tools may write the files in any order and slowly, so a change is not accepted at once:
//
//   - A changed file is read when no process has it open for writing and it has not changed for 20 ms. A file that was
//     renamed into place is read at once.
//   - A file is taken as removed when two scans at least 500 ms apart did not find it, and the directories have not
//     changed for 500 ms either.
//   - Until then the last accepted content of the file stays in use.
//
// If the directory is missing, empty or unreadable, the host is reported as unread, never as a host without bindings.
// inotify events select the files to scan. A scan of all files every 10 s (the option rescan) finds changes without an
// event.
//
// The NSDB directory itself may be a symbolic link. Links that lead out of it are not followed, only regular files are
// opened, and at most 1 MiB of a file is read.
//
// Limitations: if a file system is mounted over the directory, only the next scan notices it. If the file system hangs
// (NFS), Run blocks until it responds, even if the context ends.
package file

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// NSDB is a directory of objects and a directory of statuses, opened for one host.
type NSDB struct {
	location Location
	host     spec.HostID
	log      *slog.Logger
	timing   timing

	statusMu sync.Mutex // serializes changes of status files
}

// Open returns the NSDB of a location that ParseURL returned. It does not access the file system.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	return &NSDB{location: location, host: host, log: log, timing: defaultTiming}
}

// Close does nothing, because Run ends with its context and releases what it has opened.
func (n *NSDB) Close() error { return nil }

// Run scans the directory after events and at each rescan until ctx ends. It calls changed with the first set and with
// each set that differs from the one before.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	cache := newCache(n.location.Dir, n.host, n.timing)
	faultLog := native.NewFaultLog(n.log)
	exposed := &exposureLog{log: n.log}
	watches := newDirWatches(n.log)
	defer watches.close()
	var last *spec.Desired
	var rescan time.Time // when the next scan of all files is due
	for ctx.Err() == nil {
		// The watches come before the scan, so that a change during the scan causes an event.
		complete := watches.update(cache.watchPaths())
		now := time.Now()
		var result scanResult
		if complete && now.Before(rescan) {
			result = cache.partialScan(ctx, now)
		} else {
			result = cache.fullScan(ctx, now)
		}
		if ctx.Err() != nil {
			break
		}
		if result.complete || !now.Before(rescan) {
			rescan = now.Add(n.location.Rescan)
		}
		if result.complete {
			exposed.update(cache.exposures())
		}
		if result.stable {
			faultLog.Update(result.faults, result.desired.Unread == "")
			if last == nil || !last.Equal(&result.desired) {
				last = &result.desired
				changed(result.desired)
			}
		}
		next := rescan
		if !result.nextScan.IsZero() && result.nextScan.Before(next) {
			next = result.nextScan
		}
		// A directory that was created since update is not watched yet. Its files may change without an event.
		if due := now.Add(n.timing.debounce); watches.outdated(cache.watchPaths()) && due.Before(next) {
			next = due
		}
		watches.wait(ctx, next, cache.noteEvent, cache.noteLostEvents)
	}
	return nil
}
