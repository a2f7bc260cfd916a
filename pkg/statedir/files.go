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

	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// temporaryPrefix is the prefix of the file names of records that are being written. It starts with a dot, so it cannot
// be the prefix of a container's name.
const temporaryPrefix = ".new-"

// Entry is one record file that exists. If Record is nil, Err is the reason: it wraps ErrDamaged or ErrNewer, or is an
// error of reading the file.
type Entry struct {
	Name        spec.Name
	ServiceType spec.ServiceType
	Record      *Record
	Err         error
}

// ReadAll reads every record of a state directory without taking its lock. It returns no entries and no error if the
// directory does not exist.
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

// Read reads the records of one name from disk. Normally there is at most one. There are two while the name changes its
// service type, from the write of the new record until the removal of the deleted one, or if an administrator copied a
// record. Records in the phase Deleted come last. Names no longer returns a record that an administrator removed.
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

// read reads one record file. It returns false if the directory exists and the file does not. If the directory does not
// exist either, the entry has an error: a state directory that was unmounted or removed must not look like one without
// records.
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

// Write writes the record durably. If it returns nil, the record survives a power loss. If it returns an error, the
// former record (or none) is unchanged. The exception is an error of the last step, the fsync of the directory: after a
// power loss the directory then has either the former or the new record.
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
	path := filepath.Join(recordsIn(d.path), f.base())
	durable := atomicfile.Options{Temporary: temporaryPrefix + f.base() + "-*", Sync: true}
	if err := atomicfile.Write(path, append(content, '\n'), durable); err != nil {
		return fmt.Errorf("write record %s: %w", f.base(), err)
	}
	if !slices.Contains(d.types[f.name], f.serviceType) {
		d.types[f.name] = append(d.types[f.name], f.serviceType)
	}
	return nil
}

// Remove removes a record durably. It returns nil if the record does not exist.
func (d *Dir) Remove(name spec.Name, t spec.ServiceType) error {
	f := file{name, t}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := os.Remove(filepath.Join(recordsIn(d.path), f.base()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	if err := atomicfile.SyncDir(recordsIn(d.path)); err != nil {
		return fmt.Errorf("remove record %s: %w", f.base(), err)
	}
	d.forgetLocked(f)
	return nil
}

// forget removes f from the known record files if it does not exist. It checks again under the lock, because the record
// may have been written after the caller found it missing.
func (d *Dir) forget(f file) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, exists := read(d.path, f); !exists {
		d.forgetLocked(f)
	}
}

func (d *Dir) forgetLocked(f file) {
	d.types[f.name] = slices.DeleteFunc(d.types[f.name], func(t spec.ServiceType) bool { return t == f.serviceType })
	if len(d.types[f.name]) == 0 {
		delete(d.types, f.name)
	}
}

// removeTemporary removes the temporary files that a crash during Write left. The caller holds the lock of the
// directory, so no other process is writing a record.
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
