package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity identifies the state of a file. It changes when the file is replaced, when its content changes, and when its
// permissions or those of its directories change.
type identity struct {
	device, inode uint64
	size          int64
	modified      int64 // nanoseconds
	changed       int64 // nanoseconds
	resolved      string
	refusal       string // why the file may not be run at all; "" if it may
}

// foundFile is one file on the plugin path, before any verb of it was run.
type foundFile struct {
	path string
	identity
}

// listPath lists the files of the directories, in order. A missing directory, or another kind of file in its place, has
// no files. If a directory cannot be read, listPath returns an error, because its files still exist.
func listPath(dirs []string) ([]foundFile, error) {
	var found []foundFile
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if isTemporary(entry.Name()) {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				continue
			}
			found = append(found, inspect(path))
		}
	}
	return found, nil
}

// isTemporary reports whether a name is one of those that editors and package managers give to temporary files and
// backups.
func isTemporary(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".tmp") ||
		strings.HasSuffix(name, ".swp") || strings.Contains(name, ".dpkg-") || strings.HasSuffix(name, ".rpmnew") ||
		strings.HasSuffix(name, ".rpmsave")
}

// inspect resolves a file and decides whether it may be run. It must be a regular, executable file that only root can
// write, and only root may be able to change its path. If the file is a link, that applies to the path of its target
// too.
func inspect(path string) foundFile {
	f := foundFile{path: path}
	resolved, info, err := resolve(path)
	if err != nil {
		f.refusal = err.Error()
		return f
	}
	f.resolved = resolved
	stat := info.Sys().(*syscall.Stat_t)
	f.device, f.inode, f.size = stat.Dev, stat.Ino, stat.Size
	f.modified, f.changed = stat.Mtim.Nano(), stat.Ctim.Nano()
	switch {
	case !info.Mode().IsRegular():
		f.refusal = "not a regular file"
	case info.Mode().Perm()&0o111 == 0:
		f.refusal = "not executable"
	case othersCanWrite(resolved, info):
		f.refusal = "writable by others than root " + permissions(info)
	}
	return f
}

// maxLinks is the maximum number of symbolic links in one path, as in the kernel.
const maxLinks = 40

// resolve resolves a path from the root directory, one component at a time. It returns the path without links, and the
// file information. Each directory and each link on the way must belong to root, and only root may be able to write the
// directories. A sticky bit is not sufficient, because the owner of a file in such a directory can still replace it.
// Only root can change the resolved path after these checks, so it can be executed without opening it first.
func resolve(path string) (resolved string, info fs.FileInfo, err error) {
	at := "/"
	if info, err = os.Lstat(at); err != nil {
		return "", nil, errors.Unwrap(err)
	}
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if !info.IsDir() {
			return "", nil, fmt.Errorf("%s is not a directory", at)
		}
		if othersCanWrite(at, info) {
			return "", nil, fmt.Errorf("its directory %s is writable by others than root %s", at, permissions(info))
		}
		next := filepath.Join(at, name)
		nextInfo, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) && next != path {
			return "", nil, fmt.Errorf("dangling link: %s does not exist", next)
		}
		if err != nil {
			return "", nil, errors.Unwrap(err)
		}
		if nextInfo.Mode()&fs.ModeSymlink == 0 {
			at, info = next, nextInfo
			continue
		}
		if owner := nextInfo.Sys().(*syscall.Stat_t).Uid; owner != 0 {
			return "", nil, fmt.Errorf("the link %s belongs to user %d: allowed: links of root", next, owner)
		}
		if links++; links > maxLinks {
			return "", nil, errors.New("too many levels of symbolic links")
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", nil, errors.Unwrap(err)
		}
		if filepath.IsAbs(target) {
			at = "/"
			if info, err = os.Lstat(at); err != nil {
				return "", nil, errors.Unwrap(err)
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, info, nil
}

// permissions describes the mode and the owners of a file, for a message.
func permissions(info fs.FileInfo) string {
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("(mode %#o, owner %d, group %d)", info.Mode().Perm(), stat.Uid, stat.Gid)
}

// othersCanWrite reports whether another user than root can write a file or directory. With an access control list, the
// mode bits of the group are the mask of all entries, so the group root does not prove that only root can write.
func othersCanWrite(path string, info fs.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	if stat.Uid != 0 || info.Mode().Perm()&0o002 != 0 {
		return true
	}
	return info.Mode().Perm()&0o020 != 0 && (stat.Gid != 0 || hasAccessList(path))
}

func hasAccessList(path string) bool {
	_, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil
}
