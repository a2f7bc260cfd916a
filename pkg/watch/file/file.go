// Package file is the NSDB that is a directory of YAML and JSON files: one host, no server, whatever tool writes the files.
//
// Since any tool may write them, in any order and slowly, it believes little. A file counts when nobody has it open for
// writing and it has rested for 20 ms, or at once when it was renamed into place; a name is gone when it was missed twice,
// 500 ms apart, and the directories rested as long; meanwhile the last good content stands. A directory that is missing, empty
// or unreadable makes the host unread, never empty. Events of the kernel say which files to look at; a look at all files every
// 10 s finds what caused no event.
//
// It promises not to follow a link out of the directory, which may be a link itself, not to open what is not a regular
// file, and to read 1 MiB of one at most. It does not see a mount hide the directory before the next look,
// and a file system that hangs (NFS) holds Run, and its end, until it answers.
package file

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// NSDB is a directory of objects and a directory of statuses, as one host sees them.
type NSDB struct {
	location Location
	host     spec.HostID
	log      *slog.Logger
	patience patience

	writing sync.Mutex // one status is written at a time
}

// Open makes an NSDB of a location that ParseURL checked. It touches no file.
func Open(location Location, host spec.HostID, log *slog.Logger) *NSDB {
	return &NSDB{location: location, host: host, log: log, patience: usualPatience}
}

// Close has nothing to close: Run ends with its context.
func (n *NSDB) Close() error { return nil }

// Run looks at the directory whenever an event hints at a change, and at every rescan, until ctx ends.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	tree := newTree(n.location.Dir, n.host, n.patience)
	ledger := native.NewLedger(n.log)
	exposed := &exposureLog{log: n.log}
	hints := newHints(n.log)
	defer hints.close()
	var last *spec.Desired
	var rescan time.Time // when the next look at every file is due
	for ctx.Err() == nil {
		complete := hints.follow(tree.watched()) // before the look: what changes after it is hinted at
		now := time.Now()
		var look look
		if complete && now.Before(rescan) {
			look = tree.lookAtChanges(ctx, now)
		} else {
			look = tree.look(ctx, now)
		}
		if ctx.Err() != nil {
			break
		}
		if look.whole || !now.Before(rescan) {
			rescan = now.Add(n.location.Rescan)
		}
		if look.whole {
			exposed.follow(tree.exposures())
		}
		if look.firm {
			ledger.Tell(look.faults, look.desired.Unread == "")
			if last == nil || !last.Equal(&look.desired) {
				last = &look.desired
				changed(look.desired)
			}
		}
		again := rescan
		if !look.again.IsZero() && look.again.Before(again) {
			again = look.again
		}
		// A directory that came between follow and the look, or that the look has found, is not watched yet.
		if soon := now.Add(n.patience.settle); hints.stale(tree.watched()) && soon.Before(again) {
			again = soon
		}
		hints.wait(ctx, again, tree.note, tree.noteLoss)
	}
	return nil
}
