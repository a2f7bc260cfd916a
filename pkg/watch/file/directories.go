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

// directoryNames lists the directories whose files are read, relative to the NSDB directory.
func (c *cache) directoryNames() []string {
	return []string{
		".",
		native.Hosts,
		native.Bindings,
		string(native.BindingsKey(c.host)),
		native.Containers,
		native.Configurations,
		native.Config,
		native.Config + "/" + native.Hosts,
	}
}

// watchPaths lists the directories to watch: those of directoryNames that exist, and the parent of the NSDB directory.
// A directory behind a link that leads out of the NSDB directory is not read, so it is not watched either.
func (c *cache) watchPaths() []string {
	paths := []string{filepath.Dir(c.dir)}
	files, err := openDirectory(c.dir)
	if err != nil {
		return paths
	}
	defer files.close()
	for _, name := range c.directoryNames() {
		if _, err := files.stat(name); err == nil {
			paths = append(paths, c.path(native.Key(name)))
		}
	}
	return paths
}

func (c *cache) path(key native.Key) string {
	return filepath.Join(c.dir, filepath.FromSlash(string(key)))
}

// checkDirectories records whether a directory has changed since the last scan, because removals are not accepted while
// directories are changing. In the first scan it uses the modification times of the directories.
func (c *cache) checkDirectories() {
	for _, name := range c.directoryNames() {
		current := signature{}
		stat, err := c.files.stat(name)
		if err == nil {
			current = signatureOf(stat)
		}
		before, known := c.directories[name]
		if known && !before.sameFile(current) {
			c.toCheck = nil // another directory of the same name: there were no events for its files
		}
		if known && before != current || !known && err == nil && !current.rested(c.now, c.timing.removalDelay) {
			c.changedAt = c.now
		}
		c.directories[name] = current
	}
}

// noteEvent records an event for the next scan. It returns the delay until that scan, and whether the event may change
// the set: events for objects of other hosts in the same directories do not.
func (c *cache) noteEvent(e event) (delay time.Duration, relevant bool) {
	name := filepath.Base(e.path)
	if isSwapName(name) {
		return c.noteLostEvents(), true
	}
	for _, directory := range c.directoryNames() {
		if e.path == c.path(native.Key(directory)) {
			return c.noteLostEvents(), true
		}
	}
	stem, _, ok := objectName(name)
	if !ok {
		return 0, false
	}
	directory, err := filepath.Rel(c.dir, filepath.Dir(e.path))
	if err != nil {
		return 0, false
	}
	key := native.Key(directory + "/" + stem)
	delete(c.renamedFiles, key)
	// also for unused objects: the next binding may refer to them
	if e.renamed && len(c.renamedFiles) < maxRenamedFiles {
		c.renamedFiles[key] = name
	}
	_, known := c.entries[key]
	if !known && key != native.HostKey(c.host) && directory != string(native.BindingsKey(c.host)) {
		return 0, false
	}
	c.changed[key] = true
	if e.renamed {
		return c.timing.renameDelay, true
	}
	return c.timing.debounce, true
}

// maxRenamedFiles bounds renamedFiles. Further renamed files are read after the debounce time, like files written in
// place.
const maxRenamedFiles = 4096

// noteLostEvents makes the next scan check all files: events were lost, or an event named a whole directory.
func (c *cache) noteLostEvents() (delay time.Duration) {
	c.scanAll = true
	return c.timing.debounce
}

// Bindings lists the bindings of the host that have a file, and those whose removal is not accepted yet. A missing
// directory counts as an empty one: each of its bindings stays until its removal is accepted.
func (c *cache) Bindings(_ context.Context, host spec.HostID) ([]string, error) {
	directory := native.BindingsKey(host)
	if c.toCheck != nil {
		for key := range c.toCheck {
			port, ok := strings.CutPrefix(string(key), string(directory)+"/")
			if !ok {
				continue
			}
			e := c.entries[key]
			present := e != nil && e.known && !e.absent || len(c.files.candidates(string(key), false)) > 0
			switch at, listed := slices.BinarySearch(c.bindings, port); {
			case present && !listed:
				c.bindings = slices.Insert(c.bindings, at, port)
			case !present && listed:
				c.bindings = slices.Delete(c.bindings, at, at+1)
			}
		}
		return c.bindings, nil
	}
	names, err := c.files.names(directory)
	if err != nil {
		return nil, err
	}
	listed := c.files.openDir(string(directory)).stems
	for key, e := range c.entries {
		port, ok := strings.CutPrefix(string(key), string(directory)+"/")
		if ok && e.known && !e.absent && listed[port] == 0 {
			names = append(names, port)
		}
	}
	// If the names have not changed, c.bindings is kept. The assembler uses its strings, and a new slice would keep a
	// second copy of all names in memory.
	if slices.Sort(names); !slices.Equal(names, c.bindings) {
		c.bindings = slices.Compact(names)
	}
	return c.bindings, nil
}

// exposures lists the exposed directories and files among those that the last scan used, sorted by path.
func (c *cache) exposures() []Exposure {
	var exposures []Exposure
	for name, s := range c.directories {
		if !s.mode.IsDir() {
			continue // it does not exist
		}
		if e, exposed := exposedDirectory(c.path(native.Key(name)), s); exposed {
			exposures = append(exposures, e)
		}
	}
	for key, e := range c.entries {
		if !e.holdsKeys || !strings.HasPrefix(string(key), native.Configurations+"/") {
			continue
		}
		path := filepath.Join(filepath.Dir(c.path(key)), e.candidates[0].name)
		if e, exposed := exposedKeyFile(path, e.candidates[0].signature); exposed {
			exposures = append(exposures, e)
		}
	}
	return sortedExposures(exposures)
}
