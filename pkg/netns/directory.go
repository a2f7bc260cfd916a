package netns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/lockdir"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	// sharedLockTimeout is how long to wait for the lock that this program shares with iproute2, which holds it for two
	// mount calls.
	sharedLockTimeout = 2 * time.Second
	// privateLockTimeout is how long to wait for the lock that only root can open, which only this package takes.
	privateLockTimeout = 10 * time.Second
	// ourFileMode is the mode of the files on which this package mounts namespaces. `ip netns add` uses mode 0. This
	// package creates the file and mounts over it under the directory's lock, so a file of this mode without a mount
	// was left by a crash.
	ourFileMode = 0o400
	// mountGrace is how long another program may take from the creation of its file to the mount over it. A younger
	// plain file with another mode may become a namespace.
	mountGrace = time.Second
)

// errBeingMade means that another program may be about to mount a namespace over its file.
var errBeingMade = errors.New("another program is making it")

// directory is a directory of named namespaces, which other programs change too.
type directory struct {
	path string
	log  *slog.Logger // nil: no logging
}

// file returns the path of the file of a name.
func (d directory) file(name spec.Name) string { return d.path + "/" + string(name) }

// locked creates the directory if it does not exist and calls do while it holds two locks.
//
// The first lock is flock(LOCK_EX) on the directory itself, which iproute2's create_netns_dir takes too. It prevents
// both programs from turning the directory into a mount at the same time (systemd#2741). Every user can open the
// directory and hold that lock, so after sharedLockTimeout locked continues without it. The second lock always excludes
// other calls of this package. The shared lock is taken first, so that several calls that time out on it wait at the
// same time.
func (d directory) locked(do func() error) error {
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
func (d directory) lockPath() string {
	return filepath.Join(filepath.Dir(d.path), ".svc-netns-lock")
}

// shareLocked makes the directory a shared mount, as `ip netns add` does, so that mounts and unmounts in it propagate
// to other mount namespaces, such as those of systemd's services. Like iproute2, it bind-mounts the directory on itself
// if it is not a mount yet (EINVAL).
func (d directory) shareLocked() error {
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

// mountLocked mounts a namespace under a name.
func (d directory) mountLocked(namespace int, name spec.Name) error {
	path := d.file(name)
	if err := createFile(path); err != nil {
		return err
	}
	if err := unix.Mount(descriptorPath(namespace), path, "none", unix.MS_BIND, ""); err != nil {
		_ = unix.Unlink(path)
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// createFile creates the file to mount on, and removes a stale one of that name first. The error is ErrExists if there
// is a namespace or a file of another kind, and errBeingMade if another program may be making a namespace.
func createFile(path string) error {
	for {
		fd, err := retry(func() (int, error) {
			return unix.Open(path, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, ourFileMode)
		})
		if err == nil {
			return unix.Close(fd)
		}
		if !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("create file: %w", err)
		}
		if err := checkStale(path); err != nil {
			return err
		}
		// EBUSY: another program has mounted a namespace over the file since the check.
		switch err := unix.Unlink(path); {
		case errors.Is(err, unix.EBUSY):
			return ErrExists
		case err != nil && !errors.Is(err, unix.ENOENT):
			return fmt.Errorf("unlink stale file: %w", err)
		}
	}
}

// checkStale returns nil if the path may be replaced: if nothing is there, or a stale plain file. It returns ErrExists
// if there is a namespace or a file of another kind, and errBeingMade if another program may be about to mount a
// namespace.
func checkStale(path string) error {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return ErrExists
	}
	var system unix.Statfs_t
	if err := unix.Statfs(path, &system); errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return err
	}
	if system.Type == unix.NSFS_MAGIC {
		return ErrExists
	}
	age := time.Since(time.Unix(stat.Ctim.Unix()))
	if stat.Mode&0o777 != ourFileMode && age >= 0 && age < mountGrace {
		return errBeingMade
	}
	return nil
}
