package userid

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// table is the content of a registry.
type table struct {
	owners  map[uint32]Registration // if a registration cannot be read, only its ID is set
	damaged error                   // the errors of all registrations that cannot be read, or nil
}

// files are the registration files of a directory and their links.
type files struct{ directory string }

func (f files) path(id uint32) string { return filepath.Join(f.directory, fmt.Sprint(id)) }

func (f files) linkPath(owner spec.Owner) string { return filepath.Join(f.directory, pair(owner)) }

// read reads all registrations. A missing directory counts as an empty one.
func (f files) read() (table, error) {
	known := table{owners: map[uint32]Registration{}}
	entries, err := os.ReadDir(f.directory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return table{}, fmt.Errorf("read registry of user ids: %w", err)
	}
	for _, entry := range entries {
		id, ok := idOfFile(entry.Name())
		if !ok {
			continue
		}
		found, err := f.readOne(id)
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

// readFor returns all registered ids for an owner that findByLink did not find. It reads the content of the
// registrations only if one of them may belong to the owner. Otherwise the cost of an allocation would grow with their
// number.
func (f files) readFor(owner spec.Owner) (table, error) {
	if _, err := os.Lstat(f.linkPath(owner)); !errors.Is(err, fs.ErrNotExist) {
		return f.read() // the link exists, but it does not lead to the owner's registration
	}
	known := table{owners: map[uint32]Registration{}}
	entries, err := os.ReadDir(f.directory)
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
	// A link is created after its file and removed before it. If there are fewer links than files, a link is missing,
	// and its file may be the owner's.
	if links < len(known.owners) {
		return f.read()
	}
	return known, nil
}

// idOfFile returns the id in the name of a registration file. It returns false for the name of a link, of the state
// file and of a temporary file that a killed process left.
func idOfFile(name string) (uint32, bool) {
	number, err := strconv.ParseUint(name, 10, 32)
	id := uint32(number)
	return id, err == nil && fmt.Sprint(id) == name
}

// readOne reads the registration of an id. The error wraps fs.ErrNotExist if the id is not registered.
func (f files) readOne(id uint32) (Registration, error) {
	content, err := os.ReadFile(f.path(id))
	if err != nil {
		return Registration{ID: id}, fmt.Errorf("read user id: %w", err)
	}
	tag, hasEnd := strings.CutSuffix(string(content), "\n")
	owner, isTag := spec.ParseOwner(tag)
	if !hasEnd || !isTag || checkPair(owner) != nil {
		return Registration{ID: id}, fmt.Errorf("%w; remove the file if no container uses that user id",
			&spec.Fault{
				Key: f.path(id), Value: string(content), Allowed: "<network>:<name>:<container id> and a line feed",
			})
	}
	return Registration{id, owner}, nil
}

// id returns the id that is registered for the owner's network and name. If it is not found, the error is t.damaged,
// because a registration that cannot be read may be the owner's.
func (t table) id(owner spec.Owner) (uint32, bool, error) {
	for id, has := range t.owners {
		if has.Owner != (spec.Owner{}) && samePair(has.Owner, owner) {
			return id, true, nil
		}
	}
	return 0, false, t.damaged
}

// within returns the number of registered ids in a range.
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

// find returns the id that is registered for the owner's network and name. It follows the link of the pair, or else
// reads all registrations. The error is the same as that of Lookup.
func (f files) find(owner spec.Owner) (uint32, bool, error) {
	if known, found := f.findByLink(owner); found {
		return known.ID, true, nil
	}
	known, err := f.read()
	if err != nil {
		return 0, false, err
	}
	return known.id(owner)
}

// findByLink follows the link of a pair of network and name. It returns false if there is no link, or if the link leads
// to a registration of another pair. In these cases the pair may still have a registration.
func (f files) findByLink(owner spec.Owner) (Registration, bool) {
	if checkPair(owner) != nil {
		return Registration{}, false // an invalid name may contain a path separator
	}
	target, err := os.Readlink(f.linkPath(owner))
	if err != nil {
		return Registration{}, false
	}
	number, err := strconv.ParseUint(target, 10, 32)
	if err != nil {
		return Registration{}, false
	}
	found, err := f.readOne(uint32(number))
	return found, err == nil && samePair(found.Owner, owner)
}

// writeLocked writes or replaces the registration of an id and then its link. The link is created after the file and
// removed before it, so an interrupted call never leaves a link without its file.
func (f files) writeLocked(id uint32, owner spec.Owner) error {
	if err := replace(f.path(id), []byte(owner.String()+"\n")); err != nil {
		return err
	}
	return f.linkLocked(id, owner)
}

// linkLocked creates the link of a pair, and replaces a stale one.
func (f files) linkLocked(id uint32, owner spec.Owner) error {
	if err := f.unlinkLocked(owner); err != nil {
		return err
	}
	return os.Symlink(fmt.Sprint(id), f.linkPath(owner))
}

func (f files) unlinkLocked(owner spec.Owner) error {
	if err := os.Remove(f.linkPath(owner)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replace writes a file and renames it to path. If the process is killed before the rename, path is unchanged,
// and the temporary file .new remains until the next change replaces it. The caller must hold the lock of the
// directory.
func replace(path string, content []byte) error {
	return atomicfile.Write(path, content, atomicfile.Options{Temporary: ".new"})
}
