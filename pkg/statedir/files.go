package statedir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// temporaryPrefix begins the name of a record that is being written; no container's name begins with a dot.
const temporaryPrefix = ".new-"

// Entry is one record file: the record, or why there is none (ErrDamaged, ErrNewer, or an error of reading).
type Entry struct {
	Name        spec.Name
	ServiceType spec.ServiceType
	Record      *Record
	Err         error
}

// ReadAll reads every record of a directory without its lock, for those who only look.
func ReadAll(path string) ([]Entry, error) {
	files, err := list(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, f := range files {
		if entry, ok := read(path, f); ok {
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// Read reads the records of one name from the disk: none, or one. Two exist while a name changes its type, between the
// write of the new record and the removal of the deleted one, or if a person copied one: those that are not `deleted` come
// first. A record that a person removed is forgotten.
func (d *Dir) Read(name spec.Name) []Entry {
	d.mu.Lock()
	types := slices.Clone(d.types[name])
	d.mu.Unlock()
	var entries []Entry
	for _, t := range types {
		if entry, ok := read(d.path, file{name, t}); ok {
			entries = append(entries, entry)
		} else {
			d.forget(file{name, t})
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return rank(a) - rank(b) })
	return entries
}

func rank(e Entry) int {
	if e.Record != nil && e.Record.Phase == Deleted {
		return 1
	}
	return 0
}

// read reads one record file; false if it is not there. Without the directory nothing is known: one that was unmounted or
// removed must not look as if no container had a record.
func read(path string, f file) (Entry, bool) {
	entry := Entry{Name: f.name, ServiceType: f.serviceType}
	content, err := os.ReadFile(filepath.Join(recordsIn(path), f.base()))
	if errors.Is(err, fs.ErrNotExist) {
		if _, dirErr := os.Stat(recordsIn(path)); dirErr == nil {
			return entry, false
		}
	}
	if err != nil {
		entry.Err = fmt.Errorf("read record: %w", err)
		return entry, true
	}
	record, err := decode(f, content)
	if err != nil {
		entry.Err = fmt.Errorf("record %s: %w", f.base(), err)
		return entry, true
	}
	entry.Record = record
	return entry, true
}

// Write makes the record durable. When it returns nil the record survives a power loss; when it returns an error the
// former one (or none) stands, unless the error came from the last step, the fsync of the directory: then either may.
func (d *Dir) Write(r *Record) error {
	r.Version = FormatVersion
	f := file{r.Container.InterfaceName, r.Container.ServiceType}
	if err := r.check(f); err != nil {
		return fmt.Errorf("write record %s: %w", f.base(), err)
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write record %s: %w", f.base(), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.replace(f.base(), append(content, '\n')); err != nil {
		return fmt.Errorf("write record %s: %w", f.base(), err)
	}
	if !slices.Contains(d.types[f.name], f.serviceType) {
		d.types[f.name] = append(d.types[f.name], f.serviceType)
	}
	return nil
}

// Remove removes a record durably; one that is not there is removed.
func (d *Dir) Remove(name spec.Name, t spec.ServiceType) error {
	f := file{name, t}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := os.Remove(filepath.Join(recordsIn(d.path), f.base()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	if err := syncDir(recordsIn(d.path)); err != nil {
		return fmt.Errorf("remove record %s: %w", f.base(), err)
	}
	d.forgetLocked(f)
	return nil
}

// forget forgets a record that is not there; it may have been written since that was seen.
func (d *Dir) forget(f file) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, there := read(d.path, f); !there {
		d.forgetLocked(f)
	}
}

func (d *Dir) forgetLocked(f file) {
	d.types[f.name] = slices.DeleteFunc(d.types[f.name], func(t spec.ServiceType) bool { return t == f.serviceType })
	if len(d.types[f.name]) == 0 {
		delete(d.types, f.name)
	}
}

// replace writes a temporary file in the same directory, syncs it, renames it over the record and syncs the directory: a
// rename alone may survive a power loss without the content it names.
func (d *Dir) replace(base string, content []byte) (err error) {
	dir := recordsIn(d.path)
	temporary, err := os.CreateTemp(dir, temporaryPrefix+base+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), filepath.Join(dir, base)); err != nil {
		return err
	}
	return syncDir(dir)
}

// removeTemporary removes what a crash in the middle of Write left. The lock is held: nobody writes now.
func (d *Dir) removeTemporary() error {
	entries, err := os.ReadDir(recordsIn(d.path))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), temporaryPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(recordsIn(d.path), entry.Name())))
		}
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
