// Package statedir stores the recorded state of the supervisor on disk: one record per container, written before a step
// begins and after it ended.
//
// It guarantees that a written record survives a crash of the supervisor and a power loss (temporary file, fsync,
// rename, fsync of the directory), that a reader never sees a partial record, and that only one supervisor uses the
// directory at a time. It does not guarantee that a record matches the host: the observed state comes from systemd and
// the kernel. A record contains the configuration of its container, and so its secrets. Therefore the directory has
// mode 0700, and its files have mode 0600.
package statedir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ErrLocked means that another supervisor holds the lock of the state directory.
var ErrLocked = errors.New("in use by another svc-supervisor")

// Dir is a state directory whose lock this process holds. Its methods may be called from several goroutines.
type Dir struct {
	path string
	lock *flock.Flock

	mu    sync.Mutex
	types map[spec.Name][]spec.ServiceType // which record files exist, by container name
}

// Open creates the directory if it does not exist, takes its lock and removes the temporary files of interrupted
// writes. path must be absolute. The error wraps ErrLocked if another supervisor holds the lock.
func Open(path string) (*Dir, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("state directory %q: allowed: an absolute path", path)
	}
	if err := refuseForeign(path); err != nil {
		return nil, err
	}
	records := recordsIn(path)
	if err := os.MkdirAll(records, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	for _, dir := range []string{path, records} {
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		// A record is lost in a power loss if the entry of a directory above it is not on disk.
		if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
	}
	lock, err := takeLock(filepath.Join(path, "lock"))
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", path, err)
	}
	d := &Dir{path: path, lock: lock}
	if err := errors.Join(d.removeTemporary(), d.Rescan()); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return d, nil
}

// refuseForeign returns an error if the directory has files, but none that this package creates. Such a directory is
// used for something else, as /tmp is, and changing its mode to 0700 would break that.
func refuseForeign(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "containers" || entry.Name() == "lock" {
			return nil
		}
	}
	return &spec.Fault{Key: "state directory", Value: path, Allowed: "an empty directory, or one of svc-supervisor's"}
}

// lockTimeout is how long takeLock retries. If a supervisor is killed just after it forked, the child process also
// holds the lock until it calls exec or exits.
const lockTimeout = time.Second

// takeLock takes the lock and writes the id of this process to the lock file, for the error text of another process
// that tries to take it. It does not use package lockdir, because a lock on the directory has no place for that id.
func takeLock(path string) (*flock.Flock, error) {
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	locked, err := lock.TryLockContext(ctx, lockTimeout/50)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	if !locked {
		holder, _ := os.ReadFile(path)
		if pid := strings.TrimSpace(string(holder)); pid != "" {
			return nil, fmt.Errorf("%w (pid %s)", ErrLocked, spec.Quote(pid))
		}
		return nil, ErrLocked
	}
	// The error is ignored, because the process id is only informative, and the supervisor must start on a full disk.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return lock, nil
}

// Holder reports whether a supervisor holds the lock of a state directory, and returns its process id, or 0 if that is
// unknown. If no supervisor holds the lock, Holder takes it itself for a moment, as a shared lock.
func Holder(path string) (pid int, held bool, err error) {
	file, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, false, err
	}
	content := make([]byte, 32)
	n, _ := file.Read(content)
	pid, _ = strconv.Atoi(strings.TrimSpace(string(content[:n])))
	return pid, true, nil
}

// Close releases the lock. It does not remove the lock file: a process that already has the removed file open and one
// that creates a new file could then both hold a lock.
func (d *Dir) Close() error {
	return d.lock.Unlock()
}

// Rescan reads the list of record files from disk again, in case an administrator changed the directory. If the
// directory cannot be read or does not exist, Rescan returns an error and keeps the known list.
func (d *Dir) Rescan() error {
	d.mu.Lock() // before the list is read, so that no record that is written meanwhile is lost
	defer d.mu.Unlock()
	files, err := list(d.path)
	if err != nil {
		return err
	}
	types := map[spec.Name][]spec.ServiceType{}
	for _, f := range files {
		types[f.name] = append(types[f.name], f.serviceType)
	}
	d.types = types
	return nil
}

// Names returns the names of all containers that have a record, in any phase, including damaged records.
func (d *Dir) Names() []spec.Name {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]spec.Name, 0, len(d.types))
	for name := range d.types {
		names = append(names, name)
	}
	return names
}

// file identifies one record file.
type file struct {
	name        spec.Name
	serviceType spec.ServiceType
}

func (f file) base() string { return string(f.name) + "." + string(f.serviceType) }

func recordsIn(path string) string { return filepath.Join(path, "containers") }

// list returns the record files, sorted by file name. It leaves out files whose name is not that of a record, such as a
// README or a temporary file.
func list(path string) ([]file, error) {
	entries, err := os.ReadDir(recordsIn(path))
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var files []file
	for _, entry := range entries {
		// A name may contain dots and a service type may not, so the last dot separates them.
		dot := strings.LastIndexByte(entry.Name(), '.')
		if dot < 0 {
			continue
		}
		name, nameErr := spec.ParseName("name", entry.Name()[:dot])
		serviceType, typeErr := spec.ParseServiceType("type", entry.Name()[dot+1:])
		if nameErr == nil && typeErr == nil {
			files = append(files, file{name, serviceType})
		}
	}
	return files, nil
}
