package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/lockdir"
)

const (
	// sharedLockTimeout is how long to wait for the lock that this program shares with iproute2, which holds it for two
	// mount calls.
	sharedLockTimeout = 2 * time.Second
	// privateLockTimeout is how long to wait for the lock that only root can open, which only this package takes.
	privateLockTimeout = 10 * time.Second
)

// locked creates the directory if it does not exist and calls do while it holds two locks.
//
// The first lock is flock(LOCK_EX) on the directory itself, which iproute2's create_netns_dir takes too. It prevents
// both programs from turning the directory into a mount at the same time (systemd#2741). Every user can open the
// directory and hold that lock, so after sharedLockTimeout locked continues without it. The second lock always excludes
// other calls of this package. The shared lock is taken first, so that several calls that time out on it wait at the
// same time.
func (d Dir) locked(do func() error) error {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(d.path) // on some hosts it is a link to Docker's directory
	if err != nil {
		return err
	}
	unlock, err := lockdir.Lock(context.Background(), path, sharedLockTimeout)
	switch {
	case err == nil:
		defer unlock()
	case !errors.Is(err, lockdir.ErrBusy):
		return err
	case d.log != nil:
		d.log.Warn("lock of iproute2 is held by another program, continuing without it",
			"path", path, "waited", sharedLockTimeout)
	}
	unlock, err = lockdir.LockPrivate(context.Background(), d.lockPath(), privateLockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

// lockPath returns the directory of the lock that only root can open. It is not in d.path, because every entry there is
// a namespace.
func (d Dir) lockPath() string {
	return filepath.Join(filepath.Dir(d.path), ".svc-netns-lock")
}

// shareLocked makes the directory a shared mount, as `ip netns add` does, so that mounts and unmounts in it propagate
// to other mount namespaces, such as those of systemd's services. Like iproute2, it bind-mounts the directory on itself
// if it is not a mount yet (EINVAL).
func (d Dir) shareLocked() error {
	err := unix.Mount("", d.path, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) {
		if err := unix.Mount(d.path, d.path, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s on itself: %w", d.path, err)
		}
		err = unix.Mount("", d.path, "none", unix.MS_SHARED|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", d.path, err)
	}
	return nil
}
