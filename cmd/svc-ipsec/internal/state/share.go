package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Share sets the user id of the container: its daemon can then reach the names in the directory, but not list or open the directory
// itself. A process that can open it can lock it, and every verb would wait for that lock. WriteShared and SharedDir let the
// daemon read, OwnedDir lets it write. With the id 0 only root has access, as in version 0.1.0.
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

// OwnedDir makes a directory in which the daemon can write. A program that runs as root must not open a file in it, nor follow a
// link.
func (d *Directory) OwnedDir(name string) error {
	return errors.Join(d.mkdir(name), d.give(name, int(d.user), 0o700))
}

// mkdir makes a directory, in the place of anything else of that name.
func (d *Directory) mkdir(name string) error {
	path := filepath.Join(d.Path, name)
	err := os.Mkdir(path, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Lstat(path); err != nil || info.IsDir() {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o700)
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
