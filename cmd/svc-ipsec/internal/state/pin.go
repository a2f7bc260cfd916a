package state

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

const nsfsMagic = 0x6e736673 // NSFS_MAGIC, linux/magic.h

var processPath = lazyregexp.New(`^/proc/[^/]+/(task/[^/]+/)?ns/`)

// ErrNoNamespace is returned for a file that is not a namespace. Unmounting a namespace leaves such a file.
var ErrNoNamespace = errors.New("not a namespace, but another file")

// Inode returns the inode number of the namespace at path, which identifies it. It returns ErrNoNamespace if
// path is another file.
func Inode(path string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, &os.PathError{Op: "identify namespace", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &os.PathError{Op: "identify namespace", Path: path, Err: err}
	}
	if fs.Type != nsfsMagic {
		return 0, fmt.Errorf("identify namespace %s: %w", path, ErrNoNamespace)
	}
	return stat.Ino, nil
}

// IsPersistent reports whether the path of a namespace does not depend on a process. A path below /proc/<pid> is
// invalid when the process ends, and may lead to another namespace when the process id is used again
// (containernetworking/plugins issue 714).
func IsPersistent(path string) bool { return !processPath.MatchString(path) }

// Pin is the path of a bind mount of a namespace in the directory of its container. The mount may not exist.
type Pin string

// Persist returns a path of the namespace that does not depend on a process. This is path itself, if IsPersistent
// reports true, or otherwise the pin, which Persist creates.
func (p Pin) Persist(path string) (string, error) {
	if IsPersistent(path) {
		return path, nil
	}
	pin := string(p)
	inode, err := Inode(path)
	if err != nil {
		return "", err
	}
	if pinned, err := Inode(pin); err == nil && pinned == inode {
		return pin, nil
	}
	if err := p.Remove(); err != nil {
		return "", err
	}
	file, err := os.OpenFile(pin, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("pin namespace: %w", err)
	}
	_ = file.Close()
	if err := unix.Mount(path, pin, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("pin namespace %s: %w", path, err)
	}
	return pin, nil
}

// Remove removes the bind mount that Persist created, if there is one.
func (p Pin) Remove() error {
	pin := string(p)
	for {
		err := unix.Unmount(pin, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			continue // there may be several mounts on top of each other
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		return fmt.Errorf("unpin namespace %s: %w", pin, err)
	}
	if err := os.RemoveAll(pin); err != nil {
		return fmt.Errorf("unpin namespace: %w", err)
	}
	return nil
}
