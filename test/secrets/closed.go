package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// containers is where svc-ipsec has a directory for each container.
const containers = "run/svc-ipsec"

// access says who may read a file.
type access struct {
	mode        fs.FileMode
	user, group uint32
}

// isClosed reports whether a file of a container, by its path below the container's directory, may hold keys: it is root's, and at most
// the container's own user can read it, who is the group of the directory. state.json also holds the keys of connections that
// are refused, so root alone can read it. What the daemon owns, below run/, is no place for keys at all.
func isClosed(path string, file, directory access, root uint32) bool {
	switch {
	case file.user != root || directory.user != root || file.mode.Perm()&0o027 != 0 || directory.mode.Perm()&0o007 != 0:
		return false
	case file.mode.Perm()&0o040 == 0:
		return true
	}
	return file.group == directory.group && file.group != root && path != "state.json"
}

// openFiles lists the files below the containers' directories that may not hold keys.
func openFiles(root string) []string {
	var open []string
	directories, _ := filepath.Glob(filepath.Join(root, containers, "*"))
	for _, directory := range directories {
		of, ok := accessOf(directory)
		if !ok || filepath.Base(directory) == ".view" { // mount namespaces
			continue
		}
		_ = filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // gone meanwhile
			}
			relative, _ := filepath.Rel(directory, path)
			info, err := os.Lstat(path)
			if err != nil || info.Size() == 0 { // a namespace that is bound there has no content
				return nil
			}
			if file, ok := accessOf(path); ok && !isClosed(relative, file, of, uint32(os.Geteuid())) {
				open = append(open, path)
			}
			return nil
		})
	}
	return open
}

func accessOf(path string) (access, bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return access{}, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return access{}, false
	}
	return access{info.Mode(), stat.Uid, stat.Gid}, true
}
