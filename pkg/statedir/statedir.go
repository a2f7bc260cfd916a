// Package statedir is the supervisor's memory across a crash: one record per container, written before a step begins and
// after it ended.
//
// It promises that a record that was written is there after a crash of the supervisor and after a power loss (temporary
// file, fsync, rename, fsync of the directory), that no reader sees half of one, and that only one supervisor uses the
// directory at a time. It does not promise that a record is true: what runs is told by systemd and the kernel. A record
// holds the configuration of its container and so its secrets: the directory is 0700, its files are 0600.
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

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ErrLocked means that another supervisor uses the directory.
var ErrLocked = errors.New("in use by another svc-supervisor")

// Dir is a state directory that this process holds the lock of.
type Dir struct {
	path string
	lock *flock.Flock

	mu    sync.Mutex
	types map[spec.Name][]spec.ServiceType // which record files exist, by container name
}

// Open makes the directory where it is missing, takes its lock and removes what an interrupted write left. It returns an
// error that wraps ErrLocked if another supervisor holds the lock.
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
		// A record is as durable as the directories above it.
		if err := syncDir(filepath.Dir(dir)); err != nil {
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

// refuseForeign refuses a directory that has files and none of ours: it is used for something else (/tmp, say), and closing
// it to everybody but root would break that.
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

// lockPatience is how long a lock that is held is tried again: what a supervisor had just forked when it was killed holds
// its lock until it executes or dies, too.
const lockPatience = time.Second

// takeLock takes the lock and notes this process in it, for the error of the next one that comes.
func takeLock(path string) (*flock.Flock, error) {
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	locked, err := lock.TryLockContext(ctx, lockPatience/50)
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
	// A note only: a full disk must not keep the supervisor from starting.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return lock, nil
}

// Holder reports whether a supervisor has the lock of a state directory, and its process id, 0 if that is not known. It holds the lock
// for a moment itself if nobody has it.
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
	note := make([]byte, 32)
	n, _ := file.Read(note)
	pid, _ = strconv.Atoi(strings.TrimSpace(string(note[:n])))
	return pid, true, nil
}

// Close gives the lock back. The lock file stays: removing it would let two processes hold two of them.
func (d *Dir) Close() error {
	return d.lock.Unlock()
}

// Rescan reads again which records exist, for the case that a person changed the directory by hand. If the directory
// cannot be read, or is gone, what was known stays.
func (d *Dir) Rescan() error {
	files, err := list(d.path)
	if err != nil {
		return err
	}
	types := map[spec.Name][]spec.ServiceType{}
	for _, f := range files {
		types[f.name] = append(types[f.name], f.serviceType)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.types = types
	return nil
}

// Names returns the names of all containers that have a record, of whatever phase or condition.
func (d *Dir) Names() []spec.Name {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]spec.Name, 0, len(d.types))
	for name := range d.types {
		names = append(names, name)
	}
	return names
}

// file is one record file by its name alone.
type file struct {
	name        spec.Name
	serviceType spec.ServiceType
}

func (f file) base() string { return string(f.name) + "." + string(f.serviceType) }

func recordsIn(path string) string { return filepath.Join(path, "containers") }

// list reads the names of the record files, sorted. Files that cannot be a record's (a README, a temporary file) are not
// listed and not touched.
func list(path string) ([]file, error) {
	entries, err := os.ReadDir(recordsIn(path))
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var files []file
	for _, entry := range entries {
		// A type has no dot, a name may: the last dot divides.
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
