package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// look resolves a file and says whether it may be run: a regular, executable file that nobody but root can write, in a
// directory that nobody but root can write. For a link both directories count: who can write the one on the plugin path
// could link to any program of root's.
func look(path string) foundFile {
	f := foundFile{path: path}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		f.refusal = "a link to nothing: " + err.Error()
		return f
	}
	f.resolved = resolved
	info, err := os.Stat(resolved)
	if err != nil {
		f.refusal = err.Error()
		return f
	}
	stat := info.Sys().(*syscall.Stat_t)
	f.device, f.inode, f.size = stat.Dev, stat.Ino, stat.Size
	f.modified, f.changed = stat.Mtim.Nano(), stat.Ctim.Nano()
	switch {
	case !info.Mode().IsRegular():
		f.refusal = "not a regular file"
	case info.Mode().Perm()&0o111 == 0:
		f.refusal = "not executable"
	case othersCanWrite(info):
		f.refusal = "writable by others than root " + permissions(info)
	default:
		f.refusal = refusalOf(filepath.Dir(path), filepath.Dir(resolved))
	}
	return f
}

// refusalOf says which of the directories others than root can write, if any.
func refusalOf(dirs ...string) string {
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			return err.Error()
		}
		if othersCanWrite(info) {
			return fmt.Sprintf("its directory %s is writable by others than root %s", dir, permissions(info))
		}
	}
	return ""
}

func permissions(info fs.FileInfo) string {
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("(mode %#o, owner %d, group %d)", info.Mode().Perm(), stat.Uid, stat.Gid)
}

func othersCanWrite(info fs.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Uid != 0 || info.Mode().Perm()&0o002 != 0 || info.Mode().Perm()&0o020 != 0 && stat.Gid != 0
}
