// Package userid assigns a user id to each container of this host. The same number is its group id.
//
// A registry has one file for each id in use, /run/svc-user-ids/<id>, which contains the owner tag of the container. A
// symbolic link to that file, /run/svc-user-ids/<network>:<name>, serves to find the id of a container without reading
// all files. The files are authoritative: if a link is missing or wrong, all files are read. Network and name identify
// the container. The supervisor and the plugins look up the id of the same pair, so they get the same id without
// passing it to each other. The directory is on a tmpfs, so a boot clears it together with everything that uses the
// ids. All changes are made under one lock on the directory. Readers need no lock, because files are renamed into
// place.
//
// An id must not be assigned to a container while a process or a file of its former owner exists. Three mechanisms
// prevent that:
//
//   - Release keeps the registration while its caller reports that a part of the container exists.
//   - The ids are assigned in ascending order. A released id is assigned again only after the rest of the range was
//     used.
//   - An id that a process had when its batch was checked is not assigned. This also covers containers that still run
//     after the registry was lost.
//
// The processes and the user database of the host are read for a batch of ids (batchSize) and not for each one: a
// pass over /proc takes about 20 µs per process, and each getent some milliseconds. Only this registry assigns ids
// of the range, so the result stays valid until the batch is used up.
package userid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lockdir"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The files of a host.
const (
	Directory = "/run/svc-user-ids"            // the registry
	RangeFile = "/etc/svc-supervisor/user-ids" // one line FIRST-LAST; DefaultRange if it is missing
)

// ErrExhausted means that no id of the range is free.
var ErrExhausted = errors.New("no free user id")

// lockTimeout is how long a change waits for the lock. Its holder may wait nssTimeout for the user database.
const lockTimeout = 10 * time.Second

// networkLimit is the maximum length of a network name in an owner tag, in bytes.
const networkLimit = 150

// Registry is the assignment of user ids to containers. It keeps nothing in memory: several processes and
// goroutines may use the same directory.
type Registry struct {
	files  files
	cursor cursorFile
	ranges rangeFiles
	log    *slog.Logger
}

// Registration is the assignment of an id to a container.
type Registration struct {
	ID    uint32
	Owner spec.Owner
}

// Host returns the registry of this host. If the user database is not available during an allocation, the registry logs
// a warning to log.
func Host(log *slog.Logger) *Registry { return New(Directory, RangeFile, log) }

// New returns a registry in the given directory, with the given range file.
func New(directory, rangeFile string, log *slog.Logger) *Registry {
	return &Registry{
		files: files{directory}, cursor: cursorFile(filepath.Join(directory, ".state")),
		ranges: rangeFiles{rangeFile, []string{"/etc/subuid", "/etc/subgid"}}, log: log,
	}
}

// Allocate returns the id that is registered for the owner's network and name. If there is none, it registers the next
// free id after the last one that was assigned. A later call with another container id replaces the container id of the
// registration. The error wraps ErrExhausted if no id of the range is free. The range is read only for a new id, so a
// damaged range file does not affect a container that has an id.
func (r *Registry) Allocate(ctx context.Context, owner spec.Owner) (id uint32, err error) {
	err = r.locked(ctx, func() error {
		if err := checkOwner(owner); err != nil {
			return err
		}
		if registered, found := r.files.findByLink(owner); found {
			id = registered.ID
			if registered.Owner == owner {
				return nil
			}
			return r.files.writeLocked(id, owner)
		}
		known, err := r.files.readFor(owner)
		if err != nil {
			return err
		}
		var found bool
		if id, found, err = known.id(owner); err != nil {
			return err
		}
		if found {
			return r.files.writeLocked(id, owner)
		}
		if id, err = r.nextLocked(ctx, known); err != nil {
			return err
		}
		return r.files.writeLocked(id, owner)
	})
	if err != nil {
		return 0, fmt.Errorf("allocate user id for %s: %w", spec.Quote(pair(owner)), err)
	}
	return id, nil
}

// Adopt registers the id of an existing container after the registry was lost. The id may be outside of the current
// range, because the range may have been changed since, but it must not be in a reserved range. Adopt returns an error
// if the id has another owner, or if the owner has another id.
func (r *Registry) Adopt(ctx context.Context, owner spec.Owner, id uint32) error {
	err := r.locked(ctx, func() error {
		if err := checkAdopted(owner, id); err != nil {
			return err
		}
		known, err := r.files.read()
		if err != nil {
			return err
		}
		has, found, err := known.id(owner)
		switch {
		case found && has == id:
			return r.files.writeLocked(id, owner)
		case found:
			return fmt.Errorf("the container has user id %d already", has)
		case err != nil:
			return err
		}
		if other, taken := known.owners[id]; taken {
			return fmt.Errorf("the user id belongs to %s", spec.Quote(pair(other.Owner)))
		}
		if err := r.cursor.withdrawLocked(id); err != nil {
			return err
		}
		return r.files.writeLocked(id, owner)
	})
	if err != nil {
		return fmt.Errorf("adopt user id %d for %s: %w", id, spec.Quote(pair(owner)), err)
	}
	return nil
}

// Release removes the registration of an owner unless stillUsed reports that a part of the container still exists, such
// as its network namespace or its directory. If the owner has no id, Release returns nil and does not call stillUsed.
// Release calls stillUsed under the registry's lock, so stillUsed must not change the registry.
func (r *Registry) Release(ctx context.Context, owner spec.Owner, stillUsed func(id uint32) (bool, error)) error {
	err := r.locked(ctx, func() error {
		id, found, err := r.files.find(owner)
		if !found {
			return err
		}
		if used, err := stillUsed(id); used || err != nil {
			return err
		}
		if err := r.files.unlinkLocked(owner); err != nil {
			return err
		}
		return os.Remove(r.files.path(id))
	})
	if err != nil {
		return fmt.Errorf("release user id of %s: %w", spec.Quote(pair(owner)), err)
	}
	return nil
}

// Lookup returns the id that is registered for the owner's network and name, and false if there is none. If the owner
// is not found and a registration cannot be read, Lookup returns an error, because that registration may be the
// owner's.
func (r *Registry) Lookup(owner spec.Owner) (uint32, bool, error) {
	return r.files.find(owner)
}

// Owner returns the owner tag of the container that has an id, with the container id of the last Allocate or Adopt.
func (r *Registry) Owner(id uint32) (spec.Owner, bool, error) {
	found, err := r.files.readOne(id)
	if errors.Is(err, fs.ErrNotExist) {
		return spec.Owner{}, false, nil
	}
	if err != nil {
		return spec.Owner{}, false, err
	}
	return found.Owner, true, nil
}

// Range reads the range of this host and checks it. The error for an invalid range contains the path of the range file,
// the value and the allowed values.
func (r *Registry) Range() (Range, error) { return r.ranges.read() }

// List returns all registrations, sorted by id. If some cannot be read, it returns the others and an error.
func (r *Registry) List() ([]Registration, error) {
	known, err := r.files.read()
	if err != nil {
		return nil, err
	}
	return known.list(), known.damaged
}

// locked creates the directory if it does not exist, and calls do under its lock.
func (r *Registry) locked(ctx context.Context, do func() error) error {
	if err := makePrivate(r.files.directory); err != nil {
		return err
	}
	unlock, err := lockdir.Lock(ctx, r.files.directory, lockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

// makePrivate creates a directory of mode 0700. It returns an error if the path exists and is not such a directory of
// this user, because another user may have prepared it.
func makePrivate(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(stat.Uid) != os.Geteuid() {
		return &spec.Fault{Key: "registry of user ids", Value: path, Allowed: "a directory of this user, mode 0700"}
	}
	return nil
}

// checkOwner returns an error for an owner whose tag could not be parsed again from the registration file.
func checkOwner(owner spec.Owner) error {
	if err := checkPair(owner); err != nil {
		return err
	}
	_, err := spec.ParseID[spec.ContainerID]("container id", string(owner.ContainerID))
	return err
}

func checkPair(owner spec.Owner) error {
	if !spec.IsCNIName(owner.Network, networkLimit) {
		return &spec.Fault{Key: "network", Value: owner.Network, Allowed: "a network name of CNI, 150 bytes at most"}
	}
	_, err := spec.ParseName("name", string(owner.Name))
	return err
}

// checkAdopted returns an error for an id in a reserved range, which no container can have. The id comes from the files
// of a container, which an administrator may have changed.
func checkAdopted(owner spec.Owner, id uint32) error {
	for _, other := range reserved {
		if other.Contains(id) {
			return &spec.Fault{Key: "user id", Value: fmt.Sprint(id), Allowed: "an id within " + unreserved}
		}
	}
	return checkOwner(owner)
}

// pair returns <network>:<name>, which identifies a container on this host.
func pair(owner spec.Owner) string { return owner.Network + ":" + string(owner.Name) }

func samePair(a, b spec.Owner) bool { return a.Network == b.Network && a.Name == b.Name }
