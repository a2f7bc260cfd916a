package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// watched lists the directories that are read, and the one above them.
func (t *tree) watched() []string {
	return []string{
		filepath.Dir(t.dir),
		t.dir,
		t.path(native.Hosts),
		t.path(native.Bindings),
		t.path(native.BindingsKey(t.host)),
		t.path(native.Containers),
		t.path(native.Configurations),
		t.path(native.Config),
		t.path(native.Config + "/" + native.Hosts),
	}
}

func (t *tree) path(key native.Key) string {
	return filepath.Join(t.dir, filepath.FromSlash(string(key)))
}

// seeFolders notes whether a folder has changed since the last look: a name that is missing from one that changes is not
// believed to be gone. At the first look, the folders' own times tell.
func (t *tree) seeFolders() {
	for _, path := range t.watched()[1:] {
		seen := signature{}
		stat, err := os.Stat(path)
		if err == nil {
			seen = sign(stat)
		}
		before, known := t.folders[path]
		if known && before != seen || !known && err == nil && !seen.rested(t.now, t.patience.doubt) {
			t.changedAt = t.now
		}
		t.folders[path] = seen
	}
}

// concerns says whether an event's path may change the set: other hosts' objects in the same folders do not.
func (t *tree) concerns(path string) bool {
	name := filepath.Base(path)
	if swapName(name) {
		return true
	}
	for _, folder := range t.watched()[1:] {
		if path == folder {
			return true
		}
	}
	stem, _, ok := objectName(name)
	if !ok {
		return false
	}
	folder, err := filepath.Rel(t.dir, filepath.Dir(path))
	if err != nil {
		return false
	}
	key := native.Key(folder + "/" + stem)
	_, known := t.beliefs[key]
	return known || key == native.HostKey(t.host) || folder == string(native.BindingsKey(t.host))
}

// Bindings lists what stands in the host's folder of bindings, and what stood there and is not believed to be gone. The
// folder itself may be missing: no bindings. That, too, is believed name by name.
func (t *tree) Bindings(_ context.Context, host spec.HostID) ([]string, error) {
	folder := native.BindingsKey(host)
	names, err := t.names(folder)
	if err != nil {
		return nil, err
	}
	for key, b := range t.beliefs {
		if port, ok := strings.CutPrefix(string(key), string(folder)+"/"); ok && b.known && !b.absent {
			names = append(names, port)
		}
	}
	return names, nil
}

// names lists the objects of a folder. One that is missing has none, unless it is a link that leads nowhere.
func (t *tree) names(folder native.Key) (stems []string, err error) {
	entries, err := os.ReadDir(t.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		for _, path := range []string{t.path(folder), filepath.Dir(t.path(folder))} {
			stat, err := os.Lstat(path)
			if err == nil && stat.Mode()&fs.ModeSymlink != 0 {
				if _, err := os.Stat(path); err != nil {
					return nil, fmt.Errorf("%s is a link that leads nowhere: allowed: a directory", path)
				}
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be listed: %s", cause(err))
	}
	for _, entry := range entries {
		if stem, _, ok := objectName(entry.Name()); ok {
			stems = append(stems, stem)
		}
	}
	return stems, nil
}
