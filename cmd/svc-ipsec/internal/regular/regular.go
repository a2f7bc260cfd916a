// Package regular reads regular files in the directory of a container. A file of another type with the same name (a
// pipe, a device, a directory, a symbolic link) is an error, and never blocks the reader.
package regular

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is returned for a file that is not a regular file.
var ErrNotRegular = errors.New("must be a regular file")

// ReadFile is os.ReadFile for regular files. It does not follow a symbolic link in the last component of the path.
func ReadFile(path string) ([]byte, error) {
	// Opening a device can have side effects, so the type is checked before open as well.
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: ErrNotRegular}
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if info, err = file.Stat(); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: ErrNotRegular}
	}
	return io.ReadAll(file)
}
