package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/regular"
	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
)

// unfinished is the prefix of the name of a file that is being written.
const unfinished = ".new-"

// Tidy removes unfinished files, which remain if a verb is killed. They can contain secrets.
func (d *Directory) Tidy() error {
	for _, pattern := range []string{unfinished + "*", filepath.Join("*", unfinished+"*")} {
		left, err := filepath.Glob(filepath.Join(d.Path, pattern))
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
func (d *Directory) Write(name string, content []byte) (changed bool, err error) {
	return d.write(name, content, 0)
}

// write writes the content to a temporary file and renames it. A group other than 0 can read the file (mode 0640).
func (d *Directory) write(name string, content []byte, group uint32) (changed bool, err error) {
	path := filepath.Join(d.Path, name)
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
func (d *Directory) Delete(name string) error {
	if err := os.RemoveAll(filepath.Join(d.Path, name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
