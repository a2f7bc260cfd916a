package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Observe returns the observed state of the name. On an error the state is Unknown.
func (d Dir) Observe(name spec.Name) (Namespace, error) {
	file, state, owner, err := d.open(name)
	if err != nil {
		return Namespace{Name: name}, fmt.Errorf("observe namespace %s: %w", name, err)
	}
	if file != nil {
		_ = file.Close()
	}
	return Namespace{Name: name, State: state, Owner: owner}, nil
}

// List returns the observed state of every name in the directory that a container can have, sorted by name. Names that
// a container cannot have are left out. If a name cannot be read, its state is Unknown and its Err is set.
func (d Dir) List() ([]Namespace, error) {
	entries, err := os.ReadDir(d.directory.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	list := make([]Namespace, 0, len(entries))
	for _, entry := range entries {
		name, err := spec.ParseName("name", entry.Name())
		if err != nil {
			continue
		}
		namespace, err := d.Observe(name)
		namespace.Err = err
		if namespace.State != Absent {
			list = append(list, namespace)
		}
	}
	return list, nil
}

// open opens the file of that name and returns its state and owner. If the state is Ours, it also returns the open
// file, which refers to this mount even if another namespace gets the name later. Otherwise the file is nil.
func (d Dir) open(name spec.Name) (*os.File, State, spec.Owner, error) {
	none := spec.Owner{}
	// O_NOFOLLOW, because a symbolic link (such as `ln -s /proc/1/ns/net`) belongs to another program. O_NONBLOCK, so
	// that open does not wait for the writer of a pipe.
	fd, err := retry(func() (int, error) {
		return unix.Open(d.directory.file(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, Absent, none, nil
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a symbolic link, a socket
		return nil, Foreign, none, nil
	case err != nil:
		return nil, Unknown, none, err
	}
	file := os.NewFile(uintptr(fd), d.directory.file(name))
	state, owner, err := d.users.classify(name, file)
	if state != Ours {
		_ = file.Close()
		file = nil
	}
	return file, state, owner, err
}

// classify returns the state and the owner of an open file with this name.
func (u Users) classify(name spec.Name, file *os.File) (State, spec.Owner, error) {
	none, fd := spec.Owner{}, int(file.Fd())
	var system unix.Statfs_t
	if err := unix.Fstatfs(fd, &system); err != nil {
		return Unknown, none, err
	}
	if system.Type != unix.NSFS_MAGIC {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return Unknown, none, err
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFREG {
			return Stale, none, nil
		}
		return Foreign, none, nil // a directory or a device, which neither this package nor `ip netns` creates
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return Unknown, none, err
	}
	if kind != unix.CLONE_NEWNET {
		return Foreign, none, nil
	}
	owner, registered, err := u.registered(file)
	if err != nil {
		return Unknown, none, err
	}
	if registered {
		return stateFor(name, owner), owner, nil
	}
	alias, err := aliasIn(file)
	if err != nil {
		return Unknown, none, err
	}
	state, owner := classify(name, alias)
	return state, owner, nil
}

// registered looks up the user id that owns the network namespace in the registry, and returns the owner tag of the
// container that has this id. It returns false if no container has it, if there is no registry, or if the namespace is
// owned by the user namespace of this program.
func (u Users) registered(namespace *os.File) (spec.Owner, bool, error) {
	if u == nil {
		return spec.Owner{}, false, nil
	}
	id, own, err := UserOf(namespace)
	if own || err != nil {
		return spec.Owner{}, false, err
	}
	return u(id)
}

// descriptorPath returns a path to an open file. The path by which it was opened may refer to another file in the
// meantime.
func descriptorPath(fd int) string {
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// retry repeats call while it returns EINTR.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		value, err := call()
		if !errors.Is(err, unix.EINTR) {
			return value, err
		}
	}
}
