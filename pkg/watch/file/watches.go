package file

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"
)

// dirWatches watches the directories that are read. Its events select the files to scan.
type dirWatches struct {
	log     *slog.Logger
	inotify *inotify             // nil: none could be created, so only rescans find changes
	watched map[string]signature // the directory of each watch, since another directory may take its path
	failed  bool                 // the last update failed, and the failure was logged
}

func newDirWatches(log *slog.Logger) *dirWatches { return &dirWatches{log: log} }

func (w *dirWatches) close() {
	if w.inotify != nil {
		w.inotify.close()
		w.inotify = nil
	}
}

// update watches the given directories, as far as they exist. A watch belongs to a directory, not to a path: it stays
// on a directory that was renamed, and the kernel removes it when the file system is unmounted. If any watch does not
// fit its path any more, update creates all watches again. complete reports whether every change since the last call
// has caused an event.
func (w *dirWatches) update(directories []string) (complete bool) {
	current := statDirectories(directories)
	if w.inotify != nil && w.upToDate(current) {
		return !w.failed
	}
	w.close()
	inotify, err := newInotify()
	if err != nil {
		w.reportFailure(err)
		return false
	}
	w.inotify, w.watched = inotify, current
	for path := range current {
		if err := inotify.add(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.reportFailure(err)
			return false
		}
	}
	w.failed = false
	return false
}

// outdated reports whether the directories that exist now are not those that are watched. Changes in the others caused
// no events. If watches could not be created, outdated returns false, because only rescans find changes then.
func (w *dirWatches) outdated(directories []string) bool {
	return w.inotify != nil && !w.failed && !w.upToDate(statDirectories(directories))
}

// statDirectories returns the directories that exist, with device and inode, which differ if another directory takes a
// path.
func statDirectories(directories []string) map[string]signature {
	found := map[string]signature{}
	for _, path := range directories {
		if stat, err := os.Stat(path); err == nil && stat.IsDir() {
			s := signatureOf(stat)
			found[path] = signature{device: s.device, inode: s.inode}
		}
	}
	return found
}

func (w *dirWatches) upToDate(current map[string]signature) bool {
	if len(current) != len(w.watched) {
		return false
	}
	for path, s := range current {
		if w.watched[path] != s || !w.inotify.watched(path) {
			return false
		}
	}
	return true
}

func (w *dirWatches) reportFailure(err error) {
	if !w.failed {
		w.log.Warn("NSDB directory is not watched: changes are seen at each rescan", "error", err)
	}
	w.failed = true
}

// wait returns when the next scan is due: at the given time, or earlier after an event, or when ctx ends. It calls note
// for each event, and noteLost when events were lost. They return the delay until the scan; note also returns whether
// the event is relevant. Further events do not extend the delay, since otherwise a directory that changes all the time
// would never be scanned.
func (w *dirWatches) wait(
	ctx context.Context, until time.Time,
	note func(event) (delay time.Duration, relevant bool), noteLost func() time.Duration,
) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	var events chan event
	var failures chan error
	if w.inotify != nil {
		events, failures = w.inotify.events, w.inotify.lost
	}
	wakeAfter := func(delay time.Duration) {
		if due := time.Now().Add(delay); due.Before(until) {
			until = due
			timer.Reset(delay)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case event := <-events:
			if delay, relevant := note(event); relevant {
				wakeAfter(delay)
			}
		case err := <-failures:
			w.log.Debug("inotify events lost", "error", err)
			wakeAfter(noteLost())
		}
	}
}
