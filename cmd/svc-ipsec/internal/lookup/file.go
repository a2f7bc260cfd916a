// Package lookup finds what a configuration only points at: files of secrets, and the addresses of peers that have names.
//
// It promises that a file is read only if nobody but root could have put it there, changed it or looked into it, that
// nothing but a regular file of a right size is even opened, since to open a device or a pipe may do something or wait, and
// that no fault repeats a file's content. All names have one deadline together.
package lookup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may lead through, as in the kernel.
const maxLinks = 40

// File reads a file of at most so many bytes. All that its path leads through must be root's, and a folder there that
// others may write must have the sticky bit; a secret itself must be nobody else's to read or write.
func File(path string, most int, secret bool) ([]byte, error) {
	real, info, err := follow(path)
	if err != nil {
		return nil, err
	}
	if err := fits(info, most, secret); err != nil {
		return nil, err
	}
	// Whatever stands there by now: without O_NONBLOCK a pipe would be waited for.
	fd, err := unix.Open(real, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, plain(err)
	}
	f := os.NewFile(uintptr(fd), real)
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return nil, plain(err)
	}
	if err := fits(info, most, secret); err != nil {
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

// fits says why a file is not to be read. What the kernel makes up (/proc/kmsg, which waits and forgets) has no size.
func fits(info fs.FileInfo, most int, secret bool) error {
	others := fs.FileMode(0o022)
	allowed := "one that root alone may write"
	if secret {
		others, allowed = 0o077, "one that root alone may read or write, as of mode 0600"
	}
	switch {
	case !info.Mode().IsRegular():
		return errors.New("no regular file: allowed: a regular file")
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

// follow walks a path through its links to where nothing is a link, and says what is there. What root alone can change on
// the way is the same when the file is opened.
func follow(path string) (at string, info fs.FileInfo, err error) {
	at = "/"
	if info, err = os.Lstat(at); err != nil {
		return "", nil, plain(err)
	}
	rest := parts(path)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
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
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(parts(target), rest[1:]...)
			continue
		case info.IsDir() && info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
			return "", nil, fmt.Errorf("others may write %s: allowed: folders that root alone may write", next)
		}
		at, rest = next, rest[1:]
	}
	return at, info, nil
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
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
