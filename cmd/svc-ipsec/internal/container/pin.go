package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

const (
	pinFile   = "netns"
	nsfsMagic = 0x6e736673 // NSFS_MAGIC, linux/magic.h
)

var volatile = regexp.MustCompile(`^/proc/[^/]+/(task/[^/]+/)?ns/`)

// Inode identifies the namespace at path. A file that is no namespace, as a removed one leaves behind, is an error.
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

// Lasts says whether a path of a namespace outlives a process. A process's own path may name another namespace when the
// process id is used again (containernetworking/plugins issue 714).
func Lasts(path string) bool { return !volatile.MatchString(path) }

// Lasting returns a path of the namespace that outlives a process: the given one, or a pin.
func (f *Folder) Lasting(path string) (string, error) {
	if Lasts(path) {
		return path, nil
	}
	pin := filepath.Join(f.Path, pinFile)
	inode, err := Inode(path)
	if err != nil {
		return "", err
	}
	if pinned, err := Inode(pin); err == nil && pinned == inode {
		return pin, nil
	}
	if err := f.Unpin(); err != nil {
		return "", err
	}
	file, err := os.OpenFile(pin, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("pin namespace: %w", err)
	}
	_ = file.Close()
	if err := unix.Mount(path, pin, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("pin namespace %s: %w", path, err)
	}
	return pin, nil
}

// Unpin lets a pinned namespace go.
func (f *Folder) Unpin() error {
	pin := filepath.Join(f.Path, pinFile)
	for {
		err := unix.Unmount(pin, unix.MNT_DETACH)
		if err == nil {
			continue // mounted more than once
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		return fmt.Errorf("unpin namespace %s: %w", pin, err)
	}
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin namespace: %w", err)
	}
	return nil
}
