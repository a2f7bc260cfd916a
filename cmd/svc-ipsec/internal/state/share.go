package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Share gives the container a user id: from now on that user can reach what is shared with it by name. It can change nothing but
// what is in an OwnedDir. It cannot open the directory itself: who can open it can lock it, and every verb would wait for
// that lock. With the id 0 all stays root's alone, as version 0.1.0 had it.
func (d *Directory) Share(user uint32) error {
	d.user = user
	return d.give(".", 0, 0o710)
}

// User is the id that the directory was shared with, by its group: 0 if with none.
func (d *Directory) User() (uint32, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(d.file.Fd()), &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: d.Path, Err: err}
	}
	return stat.Gid, nil
}

// WriteShared is Write for a file that the daemon reads.
func (d *Directory) WriteShared(name string, content []byte) (changed bool, err error) {
	return d.write(name, content, d.user)
}

// SharedDir makes a directory in which the daemon reads.
func (d *Directory) SharedDir(name string) error {
	return errors.Join(d.mkdir(name), d.give(name, 0, 0o750))
}

// OwnedDir makes a directory that belongs to the daemon. Nobody else may open a file in it, or follow a link.
func (d *Directory) OwnedDir(name string) error {
	return errors.Join(d.mkdir(name), d.give(name, int(d.user), 0o700))
}

func (d *Directory) mkdir(name string) error {
	err := os.Mkdir(filepath.Join(d.Path, name), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (d *Directory) give(name string, owner int, mode fs.FileMode) error {
	if d.user == 0 {
		return nil
	}
	path := filepath.Join(d.Path, name)
	return errors.Join(os.Lchown(path, owner, int(d.user)), os.Chmod(path, mode))
}

func hasGroup(path string, group uint32) bool {
	var stat unix.Stat_t
	return unix.Lstat(path, &stat) == nil && (group == 0 || stat.Gid == group)
}
