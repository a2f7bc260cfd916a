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

// identity changes when a file does: another file, another content, other permissions, those of its directories too.
type identity struct {
	device, inode uint64
	size          int64
	modified      int64 // nanoseconds
	changed       int64 // nanoseconds
	resolved      string
	refusal       string // why the file may not be run at all; "" if it may
}

// foundFile is one file of the plugin path, before it is asked anything.
type foundFile struct {
	path string
	identity
}

// listPath lists the files of the directories, in order. A directory that is missing, or none, has no files; one that cannot
// be read is an error: its files are not gone.
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
			found = append(found, look(path))
		}
	}
	return found, nil
}

// isTemporary knows the names that editors and package managers give to files that are not yet, or no longer, meant.
func isTemporary(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".tmp") ||
		strings.HasSuffix(name, ".swp") || strings.Contains(name, ".dpkg-") || strings.HasSuffix(name, ".rpmnew") ||
		strings.HasSuffix(name, ".rpmsave")
}

// look resolves a file and decides whether it may be run: a regular, executable file that only root can write, and whose
// path only root can change. The path of a link's target counts as well as that of the link.
func look(path string) foundFile {
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

// maxLinks is the number of symbolic links that one path may lead through, as in the kernel.
const maxLinks = 40

// resolve follows a path from the root directory, one component at a time, and returns the path without links and what is
// there. Each directory and each link on the way must belong to root, and only root may be able to write the directories: a
// sticky bit does not help, since the owner of a file in such a directory can still replace it. What resolve returns cannot
// be changed by anybody but root after it was checked, so the path can be executed without opening it first.
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
			return "", nil, fmt.Errorf("a link to nothing: %s does not exist", next)
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
			return "", nil, errors.New("a link to nothing: it leads through too many links")
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

func permissions(info fs.FileInfo) string {
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("(mode %#o, owner %d, group %d)", info.Mode().Perm(), stat.Uid, stat.Gid)
}

// othersCanWrite reports whether another user than root can write a file or directory. With an access control list the
// group's bits are the upper limit of all its entries, whatever the group is.
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
