// Package atomicfile replaces files as a whole: a reader sees the former content or the new one, and so does the next
// process after a kill.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// mode is the mode that a file has while it is created: a secret must not be readable before the final mode is set.
const mode = 0o600

// Options say how Write creates a file. The zero value suits a file of which a loss in a power failure is no harm.
type Options struct {
	// Temporary is the name of the file that is written and renamed, in the directory of the target. A process that is
	// killed leaves it. A "*" stands for random digits, as in os.CreateTemp. With a name without "*", killed processes
	// leave one file at most, which the next Write replaces; its callers must exclude each other. The default is
	// ".new-*".
	Temporary string

	Mode  fs.FileMode // permissions, regardless of the umask; 0: 0600
	Group int         // the group of the file; 0: that of the process

	// Sync makes the file durable: after Write returned nil it survives a power failure. The content is synced before
	// the rename, since a rename alone may survive without the content that it names, and the directory after it.
	Sync bool
}

// Write replaces the file at path, or creates it. It does not follow a symbolic link at path, but replaces it. After an
// error the file has its former content, except if Sync failed on the directory: then either content may survive a
// power failure.
func Write(path string, content []byte, o Options) (err error) {
	dir := filepath.Dir(path)
	file, err := create(dir, o.Temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if err := errors.Join(fill(file, content, o), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	if !o.Sync {
		return nil
	}
	return SyncDir(dir)
}

func create(dir, name string) (*os.File, error) {
	switch {
	case name == "":
		return os.CreateTemp(dir, ".new-*")
	case strings.Contains(name, "*"):
		return os.CreateTemp(dir, name)
	}
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

// fill sets group and mode before it writes the content, so that only those who have permission can ever read it.
func fill(file *os.File, content []byte, o Options) error {
	if o.Group != 0 {
		if err := file.Chown(-1, o.Group); err != nil {
			return err
		}
	}
	if o.Mode != 0 && o.Mode != mode {
		if err := file.Chmod(o.Mode); err != nil {
			return err
		}
	}
	if _, err := file.Write(content); err != nil {
		return err
	}
	if !o.Sync {
		return nil
	}
	return file.Sync()
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
