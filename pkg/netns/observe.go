package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Observe looks at what stands under the name. With an error the state is Unknown.
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

// List looks at every name in the directory that a container can have, in their order. One that cannot be read is Unknown,
// with its Err; what else stands there (`ip netns` of other programs) is left out only if no container can be called so.
func (d Dir) List() ([]Namespace, error) {
	entries, err := os.ReadDir(d.path)
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

// open opens what stands under the name and says whose it is. For Ours the open file is handed over: it stands for this
// very mount, whatever the name comes to mean later. Else it is nil.
func (d Dir) open(name spec.Name) (*os.File, State, spec.Owner, error) {
	none := spec.Owner{}
	// Not through a symbolic link (`ln -s /proc/1/ns/net` is another program's), and never waiting at a pipe.
	fd, err := retry(func() (int, error) {
		return unix.Open(d.Path(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, Absent, none, nil
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a link, a socket
		return nil, Foreign, none, nil
	case err != nil:
		return nil, Unknown, none, err
	}
	file := os.NewFile(uintptr(fd), d.Path(name))
	state, owner, err := d.judgeFile(name, file)
	if state != Ours {
		_ = file.Close()
		file = nil
	}
	return file, state, owner, err
}

func (d Dir) judgeFile(name spec.Name, file *os.File) (State, spec.Owner, error) {
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
		return Foreign, none, nil // a directory, a device: nothing that we or `ip netns` leave behind
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return Unknown, none, err
	}
	if kind != unix.CLONE_NEWNET {
		return Foreign, none, nil
	}
	owner, registered, err := d.registered(file)
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
	state, owner := judge(name, alias)
	return state, owner, nil
}

// registered returns the owner tag of the container for which a network namespace was made, by the user id that owns it.
func (d Dir) registered(namespace *os.File) (spec.Owner, bool, error) {
	if d.users == nil {
		return spec.Owner{}, false, nil
	}
	id, own, err := UserOf(namespace)
	if own || err != nil {
		return spec.Owner{}, false, err
	}
	return d.users(id)
}

// descriptorPath names an open file: not the path that it was opened by, which may have come to mean another.
func descriptorPath(fd int) string {
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// retry calls again what a signal interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		value, err := call()
		if !errors.Is(err, unix.EINTR) {
			return value, err
		}
	}
}
