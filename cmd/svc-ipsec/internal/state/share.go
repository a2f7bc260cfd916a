package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Share gives the user id of the container access to the directory. Its daemon can then reach files in the directory by
// name, but cannot list or open the directory itself. A process that can open the directory can lock it, and all verbs
// would wait for that lock. WriteShared and SharedDir create files and directories that the daemon can read, and
// OwnedDir creates a directory that it can write. With user 0, only root has access, as in release 0.1.0.
func (d *Directory) Share(user uint32) error {
	d.user = user
	return d.setOwner(".", 0, 0o710)
}

// User returns the user id with which the directory was shared, or 0 if it was not shared. It is the group of the
// directory.
func (d *Directory) User() (uint32, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(d.Path, &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: d.Path, Err: err}
	}
	return stat.Gid, nil
}

// WriteShared is Write for a file that the daemon reads.
func (d *Directory) WriteShared(name string, content []byte) (changed bool, err error) {
	return d.write(name, content, d.user)
}

// SharedDir creates a directory that the daemon can read.
func (d *Directory) SharedDir(name string) error {
	return errors.Join(d.mkdir(name), d.setOwner(name, 0, 0o750))
}

// OwnedDir creates a directory that the daemon can write. Programs that run as root must not open files or follow
// symbolic links in it.
func (d *Directory) OwnedDir(name string) error {
	return errors.Join(d.mkdir(name), d.setOwner(name, int(d.user), 0o700))
}

// mkdir creates a directory, and replaces a file of another type with the same name.
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

// setOwner sets the owner and the mode of a file, and the user id of the container as its group. It does nothing if the
// directory is not shared.
func (d *Directory) setOwner(name string, owner int, mode fs.FileMode) error {
	if d.user == 0 {
		return nil
	}
	path := filepath.Join(d.Path, name)
	return errors.Join(os.Lchown(path, owner, int(d.user)), os.Chmod(path, mode))
}

// hasGroup reports whether a file exists and has the group. With group 0, any group is accepted.
func hasGroup(path string, group uint32) bool {
	var stat unix.Stat_t
	return unix.Lstat(path, &stat) == nil && (group == 0 || stat.Gid == group)
}
