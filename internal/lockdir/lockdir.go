// Package lockdir takes an exclusive lock on a directory (flock(2) on the directory itself), with a bounded wait.
package lockdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// ErrBusy means that another holder kept the lock for the whole wait.
var ErrBusy = errors.New("another process holds the lock")

// pause is the time between two attempts. flock(2) itself cannot be given a time limit.
const pause = 2 * time.Millisecond

// Lock locks an existing directory and returns the function that unlocks it. It waits until ctx ends, at most for
// patience; if only patience ended, the error wraps ErrBusy. Two goroutines of one process exclude each other like
// two processes do. The kernel releases the lock when the process ends. A symbolic link in place of the directory
// is refused.
func Lock(ctx context.Context, path string, patience time.Duration) (unlock func(), err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w for more than %s", ErrBusy, patience))
	defer cancel()
	for {
		lock := flock.New(path, flock.SetFlag(os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW))
		locked, err := lock.TryLockContext(bounded, pause)
		switch {
		case bounded.Err() != nil && !locked:
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(bounded))
		case err != nil:
			return nil, fmt.Errorf("lock: %w", err)
		}
		// Unlock and not only close: a child that is being started may hold a copy of the descriptor until it
		// executes.
		unlock := func() { _ = lock.Unlock() }
		current, err := isNamed(lock, path)
		if current {
			return unlock, nil
		}
		unlock()
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
	}
}

// LockPrivate is Lock on a directory that only its owner can open, and so lock. It makes the directory where it is missing, and
// refuses one that another user made or that others can open.
func LockPrivate(ctx context.Context, path string, patience time.Duration) (unlock func(), err error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("lock: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(stat.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("lock %s: another user can open it: allowed: a directory of mode 0700 of user %d", path, os.Geteuid())
	}
	return Lock(ctx, path, patience)
}

// isNamed reports whether the locked directory is still the one at path. A directory that was removed and made
// again between open and flock has another lock.
func isNamed(lock *flock.Flock, path string) (bool, error) {
	locked, err := lock.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(locked, named), nil
}
