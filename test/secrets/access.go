package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// containers is the directory in which svc-ipsec has a directory for each container.
const containers = "run/svc-ipsec"

// access is the mode and the ownership of a file.
type access struct {
	mode        fs.FileMode
	user, group uint32
}

// mayHoldKeys reports whether a file of a container may contain keys. path is relative to the container's directory.
// Such a file must belong to root, and apart from root at most the container's own user may read it, whose id is the
// group of the directory. state.json also contains the keys of refused connections, so only root may read it. Files
// that belong to the daemon, below run/, must not contain keys.
func mayHoldKeys(path string, file, directory access, root uint32) bool {
	switch {
	case file.user != root || directory.user != root || file.mode.Perm()&0o027 != 0 || directory.mode.Perm()&0o007 != 0:
		return false
	case file.mode.Perm()&0o040 == 0:
		return true
	}
	return file.group == directory.group && file.group != root && path != "state.json"
}

// exposedFiles returns the files below the containers' directories that must not contain keys.
func exposedFiles(root string) []string {
	var exposed []string
	directories, _ := filepath.Glob(filepath.Join(root, containers, "*"))
	for _, directory := range directories {
		of, ok := accessOf(directory)
		if !ok || filepath.Base(directory) == ".view" { // mount namespaces
			continue
		}
		_ = filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // the file was removed since, or is not a regular one
			}
			relative, _ := filepath.Rel(directory, path)
			info, err := os.Lstat(path)
			if err != nil || info.Size() == 0 { // a file on which a namespace is bind-mounted has size 0
				return nil
			}
			if file, ok := accessOf(path); ok && !mayHoldKeys(relative, file, of, uint32(os.Geteuid())) {
				exposed = append(exposed, path)
			}
			return nil
		})
	}
	return exposed
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
