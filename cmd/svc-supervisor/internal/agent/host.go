package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	endPause  = 20 * time.Millisecond
	endWithin = 3 * time.Second // after SIGKILL
)

// Machine is this host.
type Machine struct {
	Namespaces netns.Dir
	Temp       string // the agent's java.io.tmpdir, below which it has a folder for each container
}

// Ours says whether the namespace of that name carries our owner tag.
func (m Machine) Ours(name spec.Name) (bool, error) {
	namespace, err := m.Namespaces.Observe(name)
	return namespace.State == netns.Ours, err
}

// Clear removes what the agent made under a name.
func (m Machine) Clear(ctx context.Context, name spec.Name) error {
	namespace, err := m.Namespaces.Observe(name)
	if err != nil {
		return err
	}
	path := m.Namespaces.Path(name)
	if namespace.State == netns.Foreign {
		if err := endProcesses(ctx, path); err != nil {
			return fmt.Errorf("end the processes of namespace %s: %w", name, err)
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("remove namespace %s: %w", name, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace: %w", err)
	}
	if err := removeVeth(name); err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return m.removeFolder(name)
}

// endProcesses kills what lives in the namespace at path: the agent's daemons have no parent that would.
func endProcesses(ctx context.Context, path string) error {
	var namespace, own unix.Stat_t
	if err := unix.Stat(path, &namespace); err != nil {
		return err
	}
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		return err
	}
	if namespace.Ino == own.Ino && namespace.Dev == own.Dev {
		return errors.New("it is the host's own")
	}
	for deadline := time.Now().Add(endWithin); ; {
		left, err := processes(namespace)
		if err != nil || len(left) == 0 {
			return err
		}
		for _, pid := range left {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %d: %w", pid, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", left[0])
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(endPause):
		}
	}
}

func processes(namespace unix.Stat_t) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		var stat unix.Stat_t
		err = unix.Stat(filepath.Join("/proc", entry.Name(), "ns/net"), &stat)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH): // it has just ended
		case err != nil:
			return nil, fmt.Errorf("look at process %d: %w", pid, err) // it could be one that lives there
		case stat.Ino == namespace.Ino && stat.Dev == namespace.Dev:
			found = append(found, pid)
		}
	}
	return found, nil
}

// removeVeth removes the host's side, which otherwise goes a moment after the namespace. Another kind of interface is
// nobody's that the log names.
func removeVeth(name spec.Name) error {
	link, err := netlink.LinkByName(string(name))
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, ours := spec.ParseOwner(link.Attrs().Alias); ours || link.Type() != "veth" {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// removeFolder removes the agent's configuration of a container, which has the keys in it.
func (m Machine) removeFolder(name spec.Name) error {
	path := filepath.Join(m.Temp, string(name))
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || stat.Uid != 0 {
		return nil // anybody may make one of that name there
	}
	return os.RemoveAll(path)
}
