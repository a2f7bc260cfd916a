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
	// sharedPatience is how long another may hold the lock that this program shares with iproute2, which holds it for two mounts.
	sharedPatience = 2 * time.Second
	// lockPatience is how long another call of this project may hold the lock that only root can open.
	lockPatience = 10 * time.Second
)

// locked makes the directory if it is missing and calls do under two locks.
//
// The first is flock(LOCK_EX) on the directory itself, the lock of iproute2's create_netns_dir, so that the two never turn it into a
// mount twice (systemd#2741). Every user can open the directory and hold that lock, so after sharedPatience do is called without it.
// The second excludes other calls of this project in any case. The shared lock is taken first: calls that wait for it in vain do not
// wait for each other.
func (d Dir) locked(do func() error) error {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(d.path) // some hosts have a link to Docker's directory there
	if err != nil {
		return err
	}
	unlock, err := lockdir.Lock(context.Background(), path, sharedPatience)
	switch {
	case err == nil:
		defer unlock()
	case !errors.Is(err, lockdir.ErrBusy):
		return err
	case d.log != nil:
		d.log.Warn("lock of iproute2 is held by another program, continuing without it", "path", path, "waited", sharedPatience)
	}
	unlock, err = lockdir.LockPrivate(context.Background(), d.lockPath(), lockPatience)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

// lockPath is the directory with the lock that only root can open. It is beside d.path, where every entry is a namespace.
func (d Dir) lockPath() string {
	return filepath.Join(filepath.Dir(d.path), ".svc-netns-lock")
}

// shareLocked makes the directory a shared mount, as `ip netns add` does, so that a namespace named here is seen in mount
// namespaces that branched off, systemd's services among them, and an unmount too. It repeats iproute2's two steps: a
// directory that is no mount yet (EINVAL) is bound on itself once.
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
