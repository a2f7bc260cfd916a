package plugin

import (
	"context"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Follow scans the plugin path until ctx is cancelled: at the interval rescan, and soon after an event of the file
// system. It calls changed after each scan that found a change, and when files can be selected before the scan is
// complete. It calls statusInterval for each scan, because the interval can change while the supervisor runs. Events of
// the file system only make a scan start earlier. The periodic scan finds all changes, including directories that
// appear.
func (v *Inventory) Follow(
	ctx context.Context, rescan time.Duration, statusInterval func() time.Duration, changed func(),
) {
	v.mu.Lock()
	v.onChange = changed
	v.mu.Unlock()
	hints := make(chan struct{}, 1)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		var relays sync.WaitGroup
		relays.Go(func() { relay(watcher, hints) })
		defer relays.Wait()
		defer watcher.Close()
	}
	unusable := false
	timer := time.NewTimer(rescan)
	defer timer.Stop()
	for {
		if watcher != nil {
			for _, dir := range v.pluginPath {
				_ = watcher.Add(dir) // fails for a missing directory; repeated at the next scan
			}
		}
		if v.Scan(ctx, statusInterval()) {
			changed()
		}
		unusable = v.warnIfUnusable(ctx, unusable)
		timer.Reset(rescan)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-hints:
			if !awaitQuiet(ctx, hints) {
				return
			}
		}
	}
}

// warnIfUnusable logs a warning if the plugin path has no usable executable, unless it had none before: then no
// container can be added or removed. It reports whether there is none.
func (v *Inventory) warnIfUnusable(ctx context.Context, before bool) bool {
	if ctx.Err() != nil || !v.Scanned() {
		return before
	}
	executables, refusals := v.List()
	unusable := len(executables) == 0
	if unusable && !before {
		v.log.Warn("no usable executable on the plugin path", "pluginPath", v.pluginPath, "refused", len(refusals))
	}
	return unusable
}

// relay sends a hint for every event and error of the watcher, until the watcher is closed. It does not block.
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
		default: // a hint is already pending
		}
	}
}

// awaitQuiet waits until there was no hint for 100 ms, but at most 2 s, so that a file that is being copied is executed
// only after it is complete. It returns false if ctx is cancelled.
func awaitQuiet(ctx context.Context, hints <-chan struct{}) bool {
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
