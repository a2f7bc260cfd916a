package netns

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	// ourFileMode is the mode of the files on which this package mounts namespaces. `ip netns add` uses mode 0. This
	// package creates the file and mounts over it under the directory's lock, so a file of this mode without a mount was
	// left by a crash.
	ourFileMode = 0o400
	// mountGrace is how long another program may take from the creation of its file to the mount over it. A younger plain
	// file with another mode may become a namespace.
	mountGrace = time.Second
	// makeTimeout is how long Make retries while another program creates or deletes the same name, makeInterval the time
	// between two attempts.
	makeTimeout  = 3 * mountGrace
	makeInterval = 5 * time.Millisecond
)

// errBeingMade means that another program may be about to mount a namespace over its file.
var errBeingMade = errors.New("another program is making it")

// Make makes the namespace owner.Name with the owner tag, and brings up its lo. With a user id other than 0 the
// namespace is owned by a user namespace of that user. A plain file of that name is replaced. The error wraps
// ErrNoUserNamespaces if the host does not allow user namespaces, and ErrExists if a namespace of that name exists,
// whoever owns it. An existing namespace is not changed.
//
// If `ip netns add` creates the same name at the same time, exactly one of the two succeeds: both create the file with
// O_EXCL, and Make replaces a file of another program without a mount only after a second.
func (d Dir) Make(owner spec.Owner, user uint32) error {
	if err := d.makeNamed(owner, user); err != nil {
		return fmt.Errorf("make namespace %s: %w", owner.Name, err)
	}
	return nil
}

func (d Dir) makeNamed(owner spec.Owner, user uint32) error {
	namespace, err := newTagged(owner, user)
	if err != nil {
		return err
	}
	defer namespace.Close()
	deadline := time.Now().Add(makeTimeout)
	for {
		err := d.locked(func() error {
			if err := d.shareLocked(); err != nil {
				return err
			}
			return d.mountLocked(int(namespace.Fd()), owner.Name)
		})
		// ENOENT: `ip netns del` removed the file before the mount.
		temporary := errors.Is(err, errBeingMade) || errors.Is(err, unix.ENOENT)
		if !temporary || time.Now().After(deadline) {
			return err
		}
		time.Sleep(makeInterval)
	}
}

func (d Dir) mountLocked(namespace int, name spec.Name) error {
	path := d.Path(name)
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
