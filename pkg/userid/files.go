package userid

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// table is the content of a registry.
type table struct {
	owners  map[uint32]Registration // of a registration that cannot be read, the id alone
	damaged error                   // names every registration that cannot be read
}

// read reads all registrations. A missing directory has none.
func (r *Registry) read() (table, error) {
	known := table{owners: map[uint32]Registration{}}
	entries, err := os.ReadDir(r.directory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return table{}, fmt.Errorf("read registry of user ids: %w", err)
	}
	for _, entry := range entries {
		id, ok := idOfFile(entry.Name())
		if !ok {
			continue
		}
		found, err := r.readOne(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // released since the directory was listed
		}
		if err != nil {
			known.damaged = errors.Join(known.damaged, err)
		}
		known.owners[id] = found
	}
	return known, nil
}

// readFor returns all registered ids for an owner whose link led to nothing. It reads the registrations only if one of them may be the
// owner's: reading each would make the cost of an allocation grow with their number.
func (r *Registry) readFor(owner spec.Owner) (table, error) {
	if _, err := os.Lstat(r.linkPath(owner)); !errors.Is(err, fs.ErrNotExist) {
		return r.read() // the link is wrong
	}
	known := table{owners: map[uint32]Registration{}}
	entries, err := os.ReadDir(r.directory)
	if err != nil {
		return table{}, fmt.Errorf("read registry of user ids: %w", err)
	}
	links := 0
	for _, entry := range entries {
		if entry.Type()&fs.ModeSymlink != 0 {
			links++
		} else if id, ok := idOfFile(entry.Name()); ok {
			known.owners[id] = Registration{ID: id}
		}
	}
	if links < len(known.owners) { // a link is made after its file and removed before it
		return r.read()
	}
	return known, nil
}

// idOfFile is the id whose registration a file is; false for a link, the state file, or a file that a killed process did not rename.
func idOfFile(name string) (uint32, bool) {
	number, err := strconv.ParseUint(name, 10, 32)
	id := uint32(number)
	return id, err == nil && fmt.Sprint(id) == name
}

// readOne reads one registration. The error is fs.ErrNotExist if there is none.
func (r *Registry) readOne(id uint32) (Registration, error) {
	content, err := os.ReadFile(r.path(id))
	if err != nil {
		return Registration{ID: id}, fmt.Errorf("read user id: %w", err)
	}
	tag, hasEnd := strings.CutSuffix(string(content), "\n")
	owner, isTag := spec.ParseOwner(tag)
	if !hasEnd || !isTag || checkPair(owner) != nil {
		return Registration{ID: id}, fmt.Errorf("%w; remove the file if no container uses that user id",
			&spec.Fault{Key: r.path(id), Value: string(content), Allowed: "<network>:<name>:<container id> and a line feed"})
	}
	return Registration{id, owner}, nil
}

// id finds the id of an owner's network and name. The error is the one of Lookup.
func (t table) id(owner spec.Owner) (uint32, bool, error) {
	for id, has := range t.owners {
		if has.Owner != (spec.Owner{}) && samePair(has.Owner, owner) {
			return id, true, nil
		}
	}
	return 0, false, t.damaged
}

// within returns how many registered ids are in a range.
func (t table) within(ids Range) (n int) {
	for id := range t.owners {
		if ids.Contains(id) {
			n++
		}
	}
	return n
}

func (t table) list() []Registration {
	all := slices.SortedFunc(maps.Values(t.owners), func(a, b Registration) int { return cmp.Compare(a.ID, b.ID) })
	return slices.DeleteFunc(all, func(r Registration) bool { return r.Owner == spec.Owner{} })
}

// find finds the id of an owner's network and name: by the link of the pair, else by reading all registrations. The
// error is the one of Lookup.
func (r *Registry) find(owner spec.Owner) (uint32, bool, error) {
	if known, found := r.findByLink(owner); found {
		return known.ID, true, nil
	}
	known, err := r.read()
	if err != nil {
		return 0, false, err
	}
	return known.id(owner)
}

// findByLink follows the link of a pair. Without a link, or if the registration behind it is not the pair's, it finds
// nothing, which does not mean that there is no registration.
func (r *Registry) findByLink(owner spec.Owner) (Registration, bool) {
	if checkPair(owner) != nil {
		return Registration{}, false // such a name may be a path
	}
	target, err := os.Readlink(r.linkPath(owner))
	if err != nil {
		return Registration{}, false
	}
	number, err := strconv.ParseUint(target, 10, 32)
	if err != nil {
		return Registration{}, false
	}
	found, err := r.readOne(uint32(number))
	return found, err == nil && samePair(found.Owner, owner)
}

// writeLocked writes or replaces the registration of an id and then its link. The link is created after the file and removed
// before it, so an interrupted call never leaves a link without its file.
func (r *Registry) writeLocked(id uint32, owner spec.Owner) error {
	if err := r.replaceLocked(r.path(id), []byte(owner.String()+"\n")); err != nil {
		return err
	}
	return r.linkLocked(id, owner)
}

// linkLocked makes the link of a pair and replaces a stale one.
func (r *Registry) linkLocked(id uint32, owner spec.Owner) error {
	if err := r.unlinkLocked(owner); err != nil {
		return err
	}
	return os.Symlink(fmt.Sprint(id), r.linkPath(owner))
}

func (r *Registry) unlinkLocked(owner spec.Owner) error {
	if err := os.Remove(r.linkPath(owner)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *Registry) linkPath(owner spec.Owner) string {
	return filepath.Join(r.directory, pair(owner))
}

// replaceLocked writes a whole file. If the process is killed, path is unchanged and the file .new may remain; the next change
// replaces it.
func (r *Registry) replaceLocked(path string, content []byte) error {
	aside := filepath.Join(r.directory, ".new")
	if err := os.WriteFile(aside, content, 0o600); err != nil {
		return err
	}
	return os.Rename(aside, path)
}

func (r *Registry) statePath() string { return filepath.Join(r.directory, ".state") }

// loadLocked reads the position in the range. Without a readable one the position is the highest registered id of
// the range.
func (r *Registry) loadLocked(ids Range, registered table) cursor {
	var c cursor
	content, err := os.ReadFile(r.statePath())
	if err == nil && json.Unmarshal(content, &c) == nil {
		return c
	}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(registered.owners))) {
		if ids.Contains(id) {
			return cursor{Position: id}
		}
	}
	return cursor{Position: ids.Last} // the first id follows
}

// withdrawLocked takes an id out of those that are known to be free.
func (r *Registry) withdrawLocked(id uint32) error {
	c := r.loadLocked(Range{}, table{})
	i := slices.Index(c.Free, id)
	if i < 0 {
		return nil
	}
	c.Free = slices.Delete(c.Free, i, i+1)
	return r.saveLocked(c)
}

func (r *Registry) saveLocked(c cursor) error {
	content, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return r.replaceLocked(r.statePath(), append(content, '\n'))
}
