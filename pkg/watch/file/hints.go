package file

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"
)

// hints are the kernel's events of the directories that are read. They say which files to look at.
type hints struct {
	log      *slog.Logger
	watcher  *watcher             // nil: there is none, the rescan alone tells
	followed map[string]signature // what each watch was made for: a directory of the same name may take its place
	failed   bool                 // and told
}

func newHints(log *slog.Logger) *hints { return &hints{log: log} }

func (h *hints) close() {
	if h.watcher != nil {
		h.watcher.close()
		h.watcher = nil
	}
}

// follow watches the directories that exist. A watch sticks to the directory it was made for, under whatever name that
// goes on, and ends without a word when a file system is unmounted; so where one does not fit any more, all are made anew.
// complete says whether every change since the last call has caused an event.
func (h *hints) follow(directories []string) (complete bool) {
	wanted := existing(directories)
	if h.watcher != nil && h.fits(wanted) {
		return !h.failed
	}
	h.close()
	watcher, err := newWatcher()
	if err != nil {
		h.fail(err)
		return false
	}
	h.watcher, h.followed = watcher, wanted
	for path := range wanted {
		if err := watcher.add(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			h.fail(err)
			return false
		}
	}
	h.failed = false
	return false
}

// stale reports whether other directories are there by now than those that are watched. What changed in them meanwhile has caused no
// event. Where watches cannot be made, nothing is stale: the rescan alone tells.
func (h *hints) stale(directories []string) bool {
	return h.watcher != nil && !h.failed && !h.fits(existing(directories))
}

// existing are the directories that exist, with what tells one from another that takes its place.
func existing(directories []string) map[string]signature {
	found := map[string]signature{}
	for _, path := range directories {
		if stat, err := os.Stat(path); err == nil && stat.IsDir() {
			s := sign(stat)
			found[path] = signature{device: s.device, inode: s.inode}
		}
	}
	return found
}

func (h *hints) fits(wanted map[string]signature) bool {
	if len(wanted) != len(h.followed) {
		return false
	}
	for path, s := range wanted {
		if h.followed[path] != s || !h.watcher.watched(path) {
			return false
		}
	}
	return true
}

func (h *hints) fail(err error) {
	if !h.failed {
		h.log.Warn("NSDB directory is not watched: changes are seen at each rescan", "error", err)
	}
	h.failed = true
}

// wait returns when it is time to look again: at the given time, a quiet period after an event that concerns us, or when
// ctx ends. The period is not drawn out by further events, or a busy directory would never be looked at. note returns the period, and
// whether an event concerns us; lost is called when events were lost.
func (h *hints) wait(ctx context.Context, until time.Time, note func(event) (quiet time.Duration, concerns bool), lost func() time.Duration) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	var events chan event
	var failures chan error
	if h.watcher != nil {
		events, failures = h.watcher.events, h.watcher.lost
	}
	sooner := func(quiet time.Duration) {
		if soon := time.Now().Add(quiet); soon.Before(until) {
			until = soon
			timer.Reset(quiet)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case event := <-events:
			if quiet, concerns := note(event); concerns {
				sooner(quiet)
			}
		case err := <-failures:
			h.log.Debug("NSDB directory: events lost", "error", err)
			sooner(lost())
		}
	}
}
