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

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
)

// ErrBusy means that another holder kept the lock for the whole wait.
var ErrBusy = errors.New("another process holds the lock")

// retryInterval is the time between two attempts, because flock(2) itself has no timeout.
const retryInterval = 2 * time.Millisecond

// Lock locks an existing directory and returns the function that unlocks it. It waits for the lock until ctx ends, but
// no longer than timeout, which is longer on a busy machine (package busyclock), because holders then take longer. If
// the timeout has passed before ctx ended, the error wraps ErrBusy. Two goroutines of one process exclude each other
// like two processes. The kernel releases the lock when the process ends. Lock refuses a symbolic link to a directory.
func Lock(ctx context.Context, path string, timeout time.Duration) (unlock func(), err error) {
	busy := fmt.Errorf("%w for more than %s", ErrBusy, timeout)
	bounded, cancel := busyclock.WithTimeoutCause(ctx, timeout, nil, busy)
	defer cancel()
	for {
		lock := flock.New(path, flock.SetFlag(os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW))
		locked, err := lock.TryLockContext(bounded, retryInterval)
		switch {
		case bounded.Err() != nil && !locked:
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(bounded))
		case err != nil:
			return nil, fmt.Errorf("lock: %w", err)
		}
		// Closing the descriptor would not be enough: a child process that is being started may have a copy of it until
		// it calls exec.
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

// LockPrivate works like Lock, but other users cannot open the directory, and so cannot hold the lock. It creates the
// directory with mode 0700 if it does not exist. It refuses a directory that belongs to another user or that other
// users can open.
func LockPrivate(ctx context.Context, path string, timeout time.Duration) (unlock func(), err error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("lock: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(stat.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("lock %s: must be a directory of mode 0700 of user %d",
			path, os.Geteuid())
	}
	return Lock(ctx, path, timeout)
}

// isNamed reports whether the locked directory is still the one at path. If the directory was removed and created again
// between open and flock, the lock is on the removed one.
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
