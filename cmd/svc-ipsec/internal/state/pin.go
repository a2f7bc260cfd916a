package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

const (
	pinFile   = "netns"
	nsfsMagic = 0x6e736673 // NSFS_MAGIC, linux/magic.h
)

var processPath = lazyregexp.New(`^/proc/[^/]+/(task/[^/]+/)?ns/`)

// Inode identifies the namespace at path. It is an error if the file is no namespace: a removed namespace can leave a plain
// file behind.
func Inode(path string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, &os.PathError{Op: "look at namespace", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &os.PathError{Op: "look at namespace", Path: path, Err: err}
	}
	if fs.Type != nsfsMagic {
		return 0, fmt.Errorf("look at namespace %s: it is a plain file", path)
	}
	return stat.Ino, nil
}

// Lasts reports whether the path of a namespace stays valid when a process ends. The path below /proc of a process may name
// another namespace once the process id is used again (containernetworking/plugins issue 714).
func Lasts(path string) bool { return !processPath.MatchString(path) }

// Lasting returns a path of the namespace that stays valid when a process ends: the given path, or the path of a bind mount
// of the namespace in the container's directory, which it creates.
func (d *Directory) Lasting(path string) (string, error) {
	if Lasts(path) {
		return path, nil
	}
	pin := filepath.Join(d.Path, pinFile)
	inode, err := Inode(path)
	if err != nil {
		return "", err
	}
	if pinned, err := Inode(pin); err == nil && pinned == inode {
		return pin, nil
	}
	if err := d.Unpin(); err != nil {
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

// Unpin removes the bind mount that Lasting created, if there is one.
func (d *Directory) Unpin() error {
	pin := filepath.Join(d.Path, pinFile)
	for {
		err := unix.Unmount(pin, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			continue // it may have been mounted more than once
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
