package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
)

// unfinished is the prefix of the name of a file that is being written.
const unfinished = ".new-"

// Files are the files in the directory of a container.
type Files struct {
	directory string
	user      uint32 // the user id of the daemon, which may read the shared files; 0 if only root may
}

// Tidy removes unfinished files, which remain if a verb is killed. They can contain secrets.
func (f Files) Tidy() error {
	for _, pattern := range []string{unfinished + "*", filepath.Join("*", unfinished+"*")} {
		left, err := filepath.Glob(filepath.Join(f.directory, pattern))
		for _, path := range left {
			err = errors.Join(err, os.RemoveAll(path))
		}
		if err != nil {
			return fmt.Errorf("remove unfinished files: %w", err)
		}
	}
	return nil
}

// Write replaces a file atomically, and reports whether its content was different before. Only the owner can read the
// file. There is no fsync, because the directory is in memory.
func (f Files) Write(name string, content []byte) (changed bool, err error) {
	return f.write(name, content, 0)
}

// write writes the content to a temporary file and renames it. A group other than 0 can read the file (mode 0640).
func (f Files) write(name string, content []byte, group uint32) (changed bool, err error) {
	path := filepath.Join(f.directory, name)
	if old, err := regular.ReadFile(path); err == nil && bytes.Equal(old, content) && hasGroup(path, group) {
		return false, nil
	}
	options := atomicfile.Options{Temporary: unfinished + "*"}
	if group != 0 {
		options.Group, options.Mode = int(group), 0o640
	}
	if info, statErr := os.Lstat(path); statErr == nil && info.IsDir() {
		err = os.RemoveAll(path) // a rename does not replace a directory by a file
	}
	if err == nil {
		err = atomicfile.Write(path, content, options)
	}
	if err != nil {
		return false, fmt.Errorf("write %s: %w", name, err)
	}
	return true, nil
}

// Delete removes a file, or a directory in its place. It returns no error if the file does not exist.
func (f Files) Delete(name string) error {
	if err := os.RemoveAll(filepath.Join(f.directory, name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// WriteShared is Write for a file that the daemon reads.
func (f Files) WriteShared(name string, content []byte) (changed bool, err error) {
	return f.write(name, content, f.user)
}

// SharedDir creates a directory that the daemon can read.
func (f Files) SharedDir(name string) error {
	return errors.Join(f.mkdir(name), f.setOwner(name, 0, 0o750))
}

// OwnedDir creates a directory that the daemon can write. Programs that run as root must not open files or follow
// symbolic links in it.
func (f Files) OwnedDir(name string) error {
	return errors.Join(f.mkdir(name), f.setOwner(name, int(f.user), 0o700))
}

// mkdir creates a directory, and replaces a file of another type with the same name.
func (f Files) mkdir(name string) error {
	path := filepath.Join(f.directory, name)
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
func (f Files) setOwner(name string, owner int, mode fs.FileMode) error {
	if f.user == 0 {
		return nil
	}
	path := filepath.Join(f.directory, name)
	return errors.Join(os.Lchown(path, owner, int(f.user)), os.Chmod(path, mode))
}

// hasGroup reports whether a file exists and has the group. With group 0, any group is accepted.
func hasGroup(path string, group uint32) bool {
	var stat unix.Stat_t
	return unix.Lstat(path, &stat) == nil && (group == 0 || stat.Gid == group)
}
