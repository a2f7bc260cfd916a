package file

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// readFolders lists the folders that are read, by their names below the directory.
func (t *tree) readFolders() []string {
	return []string{
		".",
		native.Hosts,
		native.Bindings,
		string(native.BindingsKey(t.host)),
		native.Containers,
		native.Configurations,
		native.Config,
		native.Config + "/" + native.Hosts,
	}
}

// watched lists the directories that are read, as far as they exist, and the one above them. What is behind a link that
// leads out is not read, so it is not watched either.
func (t *tree) watched() []string {
	paths := []string{filepath.Dir(t.dir)}
	files, err := openDirectory(t.dir)
	if err != nil {
		return paths
	}
	defer files.close()
	for _, name := range t.readFolders() {
		if _, err := files.stat(name); err == nil {
			paths = append(paths, t.path(native.Key(name)))
		}
	}
	return paths
}

func (t *tree) path(key native.Key) string {
	return filepath.Join(t.dir, filepath.FromSlash(string(key)))
}

// seeFolders notes whether a folder has changed since the last look: a name that is missing from one that changes is not
// believed to be gone. At the first look, the folders' own times tell.
func (t *tree) seeFolders() {
	for _, name := range t.readFolders() {
		seen := signature{}
		stat, err := t.files.stat(name)
		if err == nil {
			seen = sign(stat)
		}
		before, known := t.folders[name]
		if known && !before.sameFile(seen) {
			t.doubtful = nil // another directory: no event has told of what is in it
		}
		if known && before != seen || !known && err == nil && !seen.rested(t.now, t.patience.doubt) {
			t.changedAt = t.now
		}
		t.folders[name] = seen
	}
}

// note notes an event for the next look. It returns when that is due, and whether the event may change the set: those of other
// hosts' objects in the same folders do not.
func (t *tree) note(e event) (quiet time.Duration, concerns bool) {
	name := filepath.Base(e.path)
	if swapName(name) {
		return t.noteLoss(), true
	}
	for _, folder := range t.readFolders() {
		if e.path == t.path(native.Key(folder)) {
			return t.noteLoss(), true
		}
	}
	stem, _, ok := objectName(name)
	if !ok {
		return 0, false
	}
	folder, err := filepath.Rel(t.dir, filepath.Dir(e.path))
	if err != nil {
		return 0, false
	}
	key := native.Key(folder + "/" + stem)
	delete(t.renamed, key)
	if e.renamed && len(t.renamed) < renamedLimit { // also of an object that the next binding may refer to
		t.renamed[key] = name
	}
	if _, known := t.beliefs[key]; !known && key != native.HostKey(t.host) && folder != string(native.BindingsKey(t.host)) {
		return 0, false
	}
	t.changed[key] = true
	if e.renamed {
		return t.patience.burst, true
	}
	return t.patience.settle, true
}

// renamedLimit bounds the files that are known to be renamed into place; others must rest.
const renamedLimit = 4096

// noteLoss notes that every file must be looked at: events were lost, or named a whole directory.
func (t *tree) noteLoss() (quiet time.Duration) {
	t.anyChanged = true
	return t.patience.settle
}

// Bindings lists what stands in the host's folder of bindings, and what stood there and is not believed to be gone. The
// folder itself may be missing: no bindings. That, too, is believed name by name.
func (t *tree) Bindings(_ context.Context, host spec.HostID) ([]string, error) {
	folder := native.BindingsKey(host)
	if t.doubtful != nil {
		for key := range t.doubtful {
			port, ok := strings.CutPrefix(string(key), string(folder)+"/")
			if !ok {
				continue
			}
			b := t.beliefs[key]
			present := b != nil && b.known && !b.absent || len(t.files.see(string(key), false)) > 0
			switch at, listed := slices.BinarySearch(t.ports, port); {
			case present && !listed:
				t.ports = slices.Insert(t.ports, at, port)
			case !present && listed:
				t.ports = slices.Delete(t.ports, at, at+1)
			}
		}
		return t.ports, nil
	}
	names, err := t.files.names(folder)
	if err != nil {
		return nil, err
	}
	listed := t.files.folder(string(folder)).stems
	for key, b := range t.beliefs {
		if port, ok := strings.CutPrefix(string(key), string(folder)+"/"); ok && b.known && !b.absent && listed[port] == 0 {
			names = append(names, port)
		}
	}
	if slices.Sort(names); !slices.Equal(names, t.ports) { // equal names: the strings in use stay the only ones
		t.ports = slices.Compact(names)
	}
	return t.ports, nil
}
