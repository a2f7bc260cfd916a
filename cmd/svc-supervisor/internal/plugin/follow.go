package plugin

import (
	"context"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Follow scans the plugin path again and again until ctx ends, and calls changed when a file has answered that is new or
// other than before, and after each scan that found a change. statusInterval is asked at each scan: it may change while the
// supervisor runs. The file system's events are only a hint to look sooner; the periodic scan finds everything, a directory that appears too.
func (v *Inventory) Follow(ctx context.Context, rescan time.Duration, statusInterval func() time.Duration, changed func()) {
	v.mu.Lock()
	v.news = changed
	v.mu.Unlock()
	hints := make(chan struct{}, 1)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		var relaying sync.WaitGroup
		relaying.Go(func() { relay(watcher, hints) })
		defer relaying.Wait()
		defer watcher.Close()
	}
	useless := false
	timer := time.NewTimer(rescan)
	defer timer.Stop()
	for {
		if watcher != nil {
			for _, dir := range v.dirs {
				_ = watcher.Add(dir) // missing: the next rescan tries again
			}
		}
		if v.Scan(ctx, statusInterval()) {
			changed()
		}
		useless = v.warnIfUseless(ctx, useless)
		timer.Reset(rescan)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-hints:
			if !settle(ctx, hints) {
				return
			}
		}
	}
}

// warnIfUseless warns when the plugin path has no usable executable any more, or had none at the first scan: then no container can be
// made or removed. It returns whether there is none.
func (v *Inventory) warnIfUseless(ctx context.Context, before bool) bool {
	if ctx.Err() != nil || !v.Scanned() {
		return before
	}
	executables, refusals := v.List()
	useless := len(executables) == 0
	if useless && !before {
		v.log.Warn("no usable executable on the plugin path", "pluginPath", v.dirs, "refused", len(refusals))
	}
	return useless
}

// relay turns every event and error of the watcher into a hint, until it is closed.
func relay(watcher *fsnotify.Watcher, hints chan<- struct{}) {
	for {
		var open bool
		select {
		case _, open = <-watcher.Events:
		case _, open = <-watcher.Errors:
		}
		if !open {
			return
		}
		select {
		case hints <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// settle waits until the hints have been quiet for a moment: a file that is being copied is asked when it is whole.
func settle(ctx context.Context, hints <-chan struct{}) bool {
	const quiet, longest = 100 * time.Millisecond, 2 * time.Second
	end := time.After(longest)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-hints:
		case <-end:
			return true
		case <-time.After(quiet):
			return true
		}
	}
}
