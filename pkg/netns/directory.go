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

// lockPatience is how long another may hold the directory's lock; `ip netns` holds it for two mounts.
const lockPatience = 5 * time.Second

// locked makes the directory if it is missing and calls do under its lock: flock(LOCK_EX) on the directory itself, the
// lock of iproute2's create_netns_dir, so that the two never turn it into a mount twice (systemd#2741).
func (d Dir) locked(do func() error) error {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(d.path) // some hosts have a link to Docker's directory there
	if err != nil {
		return err
	}
	unlock, err := lockdir.Lock(context.Background(), path, lockPatience)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
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
