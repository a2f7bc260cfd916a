package netns

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	// ourFileMode tells our own file below a namespace from that of `ip netns add`, which has mode 0. Ours is made and
	// mounted over under the directory's lock: found without a mount, it was left by a crash.
	ourFileMode = 0o400
	// halfMade is how long another program may take from its file to its mount. A younger plain file that is not of our
	// making may be a namespace in the making.
	halfMade = time.Second
	// makePatience is how long Make waits while another program creates or deletes the same name, makePause how often it looks.
	makePatience = 3 * halfMade
	makePause    = 5 * time.Millisecond
)

// errHalfMade says that another program may be about to mount a namespace over its file.
var errHalfMade = errors.New("another program is making it")

// Make makes the namespace owner.Name with the owner's tag, lo up. With a user id other than 0 it is owned by a user
// namespace of that user; ErrNoUserNamespaces if the host has none. A plain file of that name is replaced. ErrExists: a
// namespace of that name exists, whoever owns it; it was not touched.
//
// If `ip netns add` creates the same name at the same time, exactly one of the two succeeds: both make the file with O_EXCL, and
// a file of another program without a mount is replaced only after a second.
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
	deadline := time.Now().Add(makePatience)
	for {
		err := d.locked(func() error {
			if err := d.shareLocked(); err != nil {
				return err
			}
			return d.mountLocked(int(namespace.Fd()), owner.Name)
		})
		// ENOENT: `ip netns del` took the file from under the mount.
		again := errors.Is(err, errHalfMade) || errors.Is(err, unix.ENOENT)
		if !again || time.Now().After(deadline) {
			return err
		}
		time.Sleep(makePause)
	}
}

func (d Dir) mountLocked(namespace int, name spec.Name) error {
	path := d.Path(name)
	if err := takeFile(path); err != nil {
		return err
	}
	if err := unix.Mount(descriptorPath(namespace), path, "none", unix.MS_BIND, ""); err != nil {
		_ = unix.Unlink(path)
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// takeFile makes our file, in the place of a stale one.
func takeFile(path string) error {
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
		// Only a file without a mount can be unlinked: with EBUSY another program's mount was faster.
		switch err := unix.Unlink(path); {
		case errors.Is(err, unix.EBUSY):
			return ErrExists
		case err != nil && !errors.Is(err, unix.ENOENT):
			return fmt.Errorf("unlink stale file: %w", err)
		}
	}
}

// checkStale says whether what has the path may be replaced: nil for a plain file that nobody is at work with.
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
	if stat.Mode&0o777 != ourFileMode && age >= 0 && age < halfMade {
		return errHalfMade
	}
	return nil
}
