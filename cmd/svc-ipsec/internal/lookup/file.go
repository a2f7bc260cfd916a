// Package lookup finds what a configuration only points at: files of secrets, and the addresses of peers that have names.
//
// It promises that a file is read only if nobody but root could have put it there, changed it or looked into it, that
// nothing but a regular file of a right size is even opened, since to open a device or a pipe may do something or wait, that
// no file of the supervisor or of a container is read, and that no fault repeats a file's content. All names have one
// deadline together.
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

// maxLinks is how many symbolic links one path may lead through, as in the kernel.
const maxLinks = 40

// usualDirectory is where key files are expected while no directory is configured.
const usualDirectory = "/etc/svc-supervisor"

// reserved are patterns of the directories with the supervisor's files and with those of the containers, of whatever type
// they are: an executable keeps its state in /run/svc-<type>.
var reserved = []string{"/var/lib/svc-supervisor", "/run/svc-*"}

// KeyFiles reads the files of keys and certificates that configurations name. It is for one verb, and not safe for
// concurrent use.
type KeyFiles struct {
	directory  string // below which every file must lie; no link is in its path
	configured string // the same, as the operator wrote it; "": there is no such directory, and directory is /
	fault      error  // why no file is read
	reserved   []string
	taken      map[inode]bool // the files in the reserved directories; nil: not looked for yet
	unexpected map[string]bool
}

// inode identifies a file whatever its name is.
type inode struct{ device, number uint64 }

var (
	errReserved = errors.New("a file of the supervisor or of a container: allowed: another file")
	errChanged  = errors.New("was replaced while it was read: allowed: a file that stays")
)

// Read reads a file of at most so many bytes. All that its path leads through must be root's, and a directory there that
// others may write must have the sticky bit; a secret itself must be nobody else's to read or write. Where a directory is
// configured, the error for a file outside of it is the same whatever is there.
func (k *KeyFiles) Read(path string, most int, secret bool) ([]byte, error) {
	if k.fault != nil {
		return nil, k.fault
	}
	at, info, err := k.follow(path)
	if k.configured == "" && !(below(usualDirectory, path) && (err != nil || below(usualDirectory, at))) {
		k.unexpected[path] = true
	}
	if err != nil {
		return nil, err
	}
	if err := k.fits(info, most, secret); err != nil {
		return nil, err
	}
	f, err := k.open(at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	opened, err := f.Stat()
	if err != nil {
		return nil, plain(err)
	}
	if !os.SameFile(info, opened) {
		return nil, errChanged
	}
	if err := k.fits(opened, most, secret); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, plain(err)
	}
	if len(content) == 0 || len(content) > most {
		return nil, wrongSize(most) // written meanwhile
	}
	return content, nil
}

// Unexpected lists the files that Read was asked for while no directory is configured, and that are not in
// /etc/svc-supervisor.
func (k *KeyFiles) Unexpected() []string { return slices.Sorted(maps.Keys(k.unexpected)) }

// open opens a file whose path has no links. The kernel refuses one that was put there since; it does not wait for the writer
// of a pipe; and the path of what was opened, as the kernel has it, must not be a reserved one.
func (k *KeyFiles) open(at string) (*os.File, error) {
	directory, err := unix.Open(k.directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(directory) }()
	relative, err := filepath.Rel(k.directory, at)
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
	f := os.NewFile(uintptr(fd), at)
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || k.isReserved(path) {
		_ = f.Close()
		if err == nil {
			err = errReserved
		}
		return nil, plain(err)
	}
	return f, nil
}

// fits says why a file is not to be read. What the kernel makes up (/proc/kmsg, which waits and forgets) has no size.
func (k *KeyFiles) fits(info fs.FileInfo, most int, secret bool) error {
	if !info.Mode().IsRegular() {
		return errors.New("no regular file: allowed: a regular file")
	}
	taken, err := k.isTaken(info)
	if err != nil {
		return err
	}
	others := fs.FileMode(0o022)
	allowed := "one that root alone may write"
	if secret {
		others, allowed = 0o077, "one that root alone may read or write, as of mode 0600"
	}
	switch {
	case taken:
		return errReserved
	case !roots(info):
		return errors.New("another user's file: allowed: root's")
	case info.Mode().Perm()&others != 0:
		return fmt.Errorf("a file of mode %04o: allowed: %s", info.Mode().Perm(), allowed)
	case info.Size() == 0 || info.Size() > int64(most):
		return wrongSize(most)
	}
	return nil
}

func wrongSize(most int) error {
	return fmt.Errorf("an empty file, or a larger one: allowed: 1 to %d bytes", most)
}

// follow walks a path through its links to where nothing is a link, and says what is there. It does not look at what is
// outside of the directory, or in a reserved one. What root alone can change on the way is the same when the file is opened.
func (k *KeyFiles) follow(path string) (at string, info fs.FileInfo, err error) {
	rest, inside := k.inside(path)
	if !inside {
		return "", nil, k.outside()
	}
	at = k.directory
	if info, err = os.Lstat(at); err != nil {
		return "", nil, plain(err)
	}
	for links := 0; len(rest) > 0; {
		if rest[0] == ".." && at == k.directory && at != "/" {
			return "", nil, k.outside()
		}
		next := filepath.Join(at, rest[0])
		if k.isReserved(next) {
			return "", nil, errReserved
		}
		if info, err = os.Lstat(next); err != nil {
			return "", nil, plain(err)
		}
		last := len(rest) == 1
		switch {
		case !roots(info) && !last:
			return "", nil, fmt.Errorf("%s is another user's: allowed: a path of root's folders and links", next)
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(next)
			if err != nil {
				return "", nil, plain(err)
			}
			if links++; links > maxLinks || !roots(info) {
				return "", nil, fmt.Errorf("%s is a link too many, or another user's: allowed: a path of root's folders and links", next)
			}
			remaining := rest[1:]
			if rest = parts(target); filepath.IsAbs(target) {
				if rest, inside = k.inside(target); !inside {
					return "", nil, k.outside()
				}
				at = k.directory
			}
			rest = slices.Concat(rest, remaining)
			continue
		case info.IsDir() && info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
			return "", nil, fmt.Errorf("others may write %s: allowed: folders that root alone may write", next)
		}
		at, rest = next, rest[1:]
	}
	return at, info, nil
}

// inside returns the components of an absolute path below the directory, and whether it leads there at all. The directory may
// be named as the operator did, or without links.
func (k *KeyFiles) inside(path string) (rest []string, inside bool) {
	all := parts(path)
	for _, directory := range []string{k.directory, k.configured} {
		if prefix := parts(directory); directory != "" && len(all) >= len(prefix) && slices.Equal(all[:len(prefix)], prefix) {
			return all[len(prefix):], true
		}
	}
	return nil, false
}

func (k *KeyFiles) outside() error {
	return fmt.Errorf("allowed: a file below %s", k.configured)
}

// isReserved reports whether a path without links lies in a reserved directory.
func (k *KeyFiles) isReserved(path string) bool {
	components := parts(path)
	for _, pattern := range k.reserved {
		depth := len(parts(pattern))
		if len(components) <= depth {
			continue
		}
		if matched, err := filepath.Match(pattern, "/"+strings.Join(components[:depth], "/")); matched && err == nil {
			return true
		}
	}
	return false
}

// isTaken reports whether a file is one of a reserved directory under another name: through a hard link or a bind mount.
func (k *KeyFiles) isTaken(info fs.FileInfo) (bool, error) {
	if k.taken == nil {
		taken := map[inode]bool{}
		for _, pattern := range k.reserved {
			directories, _ := filepath.Glob(pattern) // an error is one of the pattern
			for _, directory := range directories {
				if err := addFiles(taken, directory); err != nil {
					return false, fmt.Errorf("cannot be compared with the files of containers: %w", err)
				}
			}
		}
		k.taken = taken
	}
	return k.taken[inodeOf(info)], nil
}

// addFiles adds the regular files below a directory. What goes meanwhile is passed over, and so are directories that others
// than root can write: what a daemon makes in its own is not root's, so it is refused anyway, and a daemon must not be able
// to slow other containers down by many files.
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
		case entry.IsDir() && (!roots(info) || info.Mode().Perm()&0o022 != 0), path == directory && !entry.IsDir():
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

// parts takes a path apart, without what stands for the directory before it.
func parts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(part string) bool { return part == "" || part == "." })
}

// roots says whether a file is root's, or this program's own user's: a test need not be root.
func roots(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}

// plain takes the path off an error: whoever named the file names it once.
func plain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
