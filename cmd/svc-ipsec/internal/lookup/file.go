// Package lookup reads the key and certificate files that a configuration references, and resolves the names of peers.
//
// It reads a file only if no user but root can have created or changed it, and reads a secret only if no other user can
// read it. It opens only regular files with a valid size, because opening a device or a pipe can have side effects or
// block. It never reads a file of the supervisor or of a container. Errors never contain the content of a file. All
// names that are resolved together have one common deadline.
package lookup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is the maximum number of symbolic links in the resolution of one path, as in the kernel.
const maxLinks = 40

// usualDirectory is the directory in which key files are expected if no directory is configured.
const usualDirectory = "/etc/svc-supervisor"

// reserved are patterns of the directories with the files of the supervisor and of the containers. A container of any
// type has its files in /run/svc-<type>.
var reserved = []string{"/var/lib/svc-supervisor", "/run/svc-*"}

// KeyFiles reads the key and certificate files that configurations reference. A value is used for one verb, and is not
// safe for concurrent use.
type KeyFiles struct {
	directory      string // all files must be below it; its path has no symbolic links
	configured     string // the same directory as the operator wrote it; "" if none is configured, then directory is /
	fault          error  // the reason why no file is read, or nil
	reserved       []string
	reservedInodes map[inode]bool // the files in the reserved directories; nil until they are needed
	unexpected     map[string]bool
}

// inode identifies a file independently of its names.
type inode struct{ device, number uint64 }

var (
	errReserved = errors.New("a file of the supervisor or of a container: allowed: another file")
	errChanged  = errors.New("was replaced while it was read: allowed: a file that is not replaced meanwhile")
)

// Read reads a file of at most maxSize bytes. The file, and all directories and symbolic links in its path, must belong
// to root. A directory that other users can write must have the sticky bit. A secret must not be readable or writable
// for other users. If a directory is configured, the error for all paths outside of it is the same, so that it does not
// reveal which files exist.
func (k *KeyFiles) Read(path string, maxSize int, secret bool) ([]byte, error) {
	if k.fault != nil {
		return nil, k.fault
	}
	resolved, info, err := k.resolve(path)
	if k.configured == "" && !(below(usualDirectory, path) && (err != nil || below(usualDirectory, resolved))) {
		k.unexpected[path] = true
	}
	if err != nil {
		return nil, err
	}
	if err := k.check(info, maxSize, secret); err != nil {
		return nil, err
	}
	f, err := k.open(resolved)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	opened, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !os.SameFile(info, opened) {
		return nil, errChanged
	}
	if err := k.check(opened, maxSize, secret); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(maxSize)+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(content) == 0 || len(content) > maxSize {
		return nil, wrongSize(maxSize) // the size changed after check
	}
	return content, nil
}

// Unexpected lists the paths that were passed to Read and that are outside of /etc/svc-supervisor. If a directory is
// configured, the list is empty.
func (k *KeyFiles) Unexpected() []string { return slices.Sorted(maps.Keys(k.unexpected)) }

// open opens a file whose path has no symbolic links. RESOLVE_NO_SYMLINKS refuses a link that was created after the
// path was resolved. O_NONBLOCK prevents that open waits for the writer of a pipe. open refuses a file whose path in
// the kernel is a reserved one, which can be the case with bind mounts.
func (k *KeyFiles) open(resolved string) (*os.File, error) {
	directory, err := unix.Open(k.directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(directory) }()
	relative, err := filepath.Rel(k.directory, resolved)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat2(directory, relative, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return nil, errChanged
	case err != nil:
		return nil, err
	}
	f := os.NewFile(uintptr(fd), resolved)
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || k.isReserved(path) {
		_ = f.Close()
		if err == nil {
			err = errReserved
		}
		return nil, withoutPath(err)
	}
	return f, nil
}

// check returns an error if a file must not be read. Files that the kernel generates have size 0 and are refused. One
// of them is /proc/kmsg: reading it blocks, and removes the messages that are read.
func (k *KeyFiles) check(info fs.FileInfo, maxSize int, secret bool) error {
	if !info.Mode().IsRegular() {
		return errors.New("no regular file: allowed: a regular file")
	}
	isReserved, err := k.isReservedFile(info)
	if err != nil {
		return err
	}
	forbidden := fs.FileMode(0o022)
	allowed := "a file that only root can write"
	if secret {
		forbidden, allowed = 0o077, "a file that only root can read and write, such as mode 0600"
	}
	switch {
	case isReserved:
		return errReserved
	case !ownedByRoot(info):
		return errors.New("the file belongs to another user: allowed: a file that root owns")
	case info.Mode().Perm()&forbidden != 0:
		return fmt.Errorf("the file has mode %04o: allowed: %s", info.Mode().Perm(), allowed)
	case info.Size() == 0 || info.Size() > int64(maxSize):
		return wrongSize(maxSize)
	}
	return nil
}

func wrongSize(maxSize int) error {
	return fmt.Errorf("an empty file, or one that is too large: allowed: 1 to %d bytes", maxSize)
}

// resolve resolves the symbolic links of a path, and returns the resulting path and the file information. It does not
// access anything outside of the directory, or in a reserved directory. It refuses directories that other users than
// root can change, so the path leads to the same file when it is opened.
func (k *KeyFiles) resolve(path string) (resolved string, info fs.FileInfo, err error) {
	rest, inside := k.inside(path)
	if !inside {
		return "", nil, k.outside()
	}
	resolved = k.directory
	if info, err = os.Lstat(resolved); err != nil {
		return "", nil, withoutPath(err)
	}
	for links := 0; len(rest) > 0; {
		if rest[0] == ".." && resolved == k.directory && resolved != "/" {
			return "", nil, k.outside()
		}
		next := filepath.Join(resolved, rest[0])
		if k.isReserved(next) {
			return "", nil, errReserved
		}
		if info, err = os.Lstat(next); err != nil {
			return "", nil, withoutPath(err)
		}
		last := len(rest) == 1
		switch {
		case !ownedByRoot(info) && !last:
			return "", nil, fmt.Errorf("%s belongs to another user: "+
				"allowed: a path of directories and links that root owns", next)
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(next)
			if err != nil {
				return "", nil, withoutPath(err)
			}
			if links++; links > maxLinks || !ownedByRoot(info) {
				return "", nil, fmt.Errorf("%s is one link too many, or belongs to another user: "+
					"allowed: a path of directories and links that root owns", next)
			}
			remaining := rest[1:]
			if rest = components(target); filepath.IsAbs(target) {
				if rest, inside = k.inside(target); !inside {
					return "", nil, k.outside()
				}
				resolved = k.directory
			}
			rest = slices.Concat(rest, remaining)
			continue
		case info.IsDir() && info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
			return "", nil, fmt.Errorf("%s is writable by other users: allowed: directories that only root can write",
				next)
		}
		resolved, rest = next, rest[1:]
	}
	return resolved, info, nil
}

// inside reports whether an absolute path is below the directory, and returns its components below the directory. The
// path may begin with the directory as the operator wrote it, or with its resolved path.
func (k *KeyFiles) inside(path string) (rest []string, inside bool) {
	all := components(path)
	for _, directory := range []string{k.directory, k.configured} {
		prefix := components(directory)
		if directory != "" && len(all) >= len(prefix) && slices.Equal(all[:len(prefix)], prefix) {
			return all[len(prefix):], true
		}
	}
	return nil, false
}

func (k *KeyFiles) outside() error {
	return fmt.Errorf("allowed: a file below %s", k.configured)
}

// isReserved reports whether a path without symbolic links is inside a reserved directory.
func (k *KeyFiles) isReserved(path string) bool {
	all := components(path)
	for _, pattern := range k.reserved {
		depth := len(components(pattern))
		if len(all) <= depth {
			continue
		}
		if matched, err := filepath.Match(pattern, "/"+strings.Join(all[:depth], "/")); matched && err == nil {
			return true
		}
	}
	return false
}

// isReservedFile reports whether a file is in a reserved directory too. This is so if its path is a hard link, or
// inside a bind mount.
func (k *KeyFiles) isReservedFile(info fs.FileInfo) (bool, error) {
	if k.reservedInodes == nil {
		inodes := map[inode]bool{}
		for _, pattern := range k.reserved {
			directories, _ := filepath.Glob(pattern) // returns errors only for invalid patterns
			for _, directory := range directories {
				if err := addFiles(inodes, directory); err != nil {
					return false, fmt.Errorf("cannot be compared with the files of containers: %w", err)
				}
			}
		}
		k.reservedInodes = inodes
	}
	return k.reservedInodes[inodeOf(info)], nil
}

// addFiles adds the regular files below a directory. It ignores files that are removed meanwhile. It skips directories
// that other users than root can write, such as the directory of a daemon. Files that a daemon creates do not belong to
// root and are refused anyway, and with many files a daemon could slow down the verbs of other containers.
func addFiles(files map[inode]bool, directory string) error {
	return filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && (!ownedByRoot(info) || info.Mode().Perm()&0o022 != 0),
			path == directory && !entry.IsDir():
			return fs.SkipDir
		case entry.Type().IsRegular():
			files[inodeOf(info)] = true
		}
		return nil
	})
}

func inodeOf(info fs.FileInfo) inode {
	stat := info.Sys().(*syscall.Stat_t)
	return inode{stat.Dev, stat.Ino}
}

func below(directory, path string) bool {
	return strings.HasPrefix(path, directory+"/")
}

// components returns the components of a path, without empty ones and ".".
func components(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(part string) bool { return part == "" || part == "." })
}

// ownedByRoot reports whether a file belongs to root, or to the user of this process. So tests can run without root.
func ownedByRoot(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}

// withoutPath removes the path from an error, because the fault in which it is reported contains the path already.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
