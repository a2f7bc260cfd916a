package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/procids"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	killInterval = 20 * time.Millisecond
	killTimeout  = 3 * time.Second // how long processes may take to end after SIGKILL
)

// Machine implements Host for the host that the supervisor runs on.
type Machine struct {
	Namespaces netns.Dir
	Temp       string // the agent's java.io.tmpdir, which has a directory for each container of the agent
}

// Ours reports whether the namespace of that name has our owner tag.
func (m Machine) Ours(name spec.Name) (bool, error) {
	namespace, err := m.Namespaces.Observe(name)
	return namespace.State == netns.Ours, err
}

// Clear removes everything that the agent made for a container; see Host.
func (m Machine) Clear(ctx context.Context, name spec.Name) error {
	namespace, err := m.Namespaces.Observe(name)
	if err != nil {
		return err
	}
	path := m.Namespaces.Path(name)
	if namespace.State == netns.Foreign {
		if err := killProcesses(ctx, path); err != nil {
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
	return m.removeDirectory(name)
}

// killProcesses kills all processes in the network namespace at path, and waits until they have ended. The parent of
// the agent's daemons, which would stop them, does not run any more. It refuses the network namespace of this process.
func killProcesses(ctx context.Context, path string) error {
	var namespace, own unix.Stat_t
	if err := unix.Stat(path, &namespace); err != nil {
		return err
	}
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		return err
	}
	if namespace.Ino == own.Ino && namespace.Dev == own.Dev {
		return errors.New("it is the namespace of the host")
	}
	for deadline := time.Now().Add(killTimeout); ; {
		left, err := processesIn(namespace)
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
		case <-time.After(killInterval):
		}
	}
}

// processesIn returns the ids of the processes in a network namespace.
func processesIn(namespace unix.Stat_t) ([]int, error) {
	pids, err := procids.All()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, pid := range pids {
		var stat unix.Stat_t
		err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &stat)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH): // the process has just ended
		case err != nil:
			// The process may be in the namespace, so skipping it would be wrong.
			return nil, fmt.Errorf("read the network namespace of process %d: %w", pid, err)
		case stat.Ino == namespace.Ino && stat.Dev == namespace.Dev:
			found = append(found, pid)
		}
	}
	return found, nil
}

// removeVeth removes the host's end of the veth. The kernel removes it too, but only some time after the namespace. An
// interface of another kind, or with our owner tag, is not the agent's and stays.
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

// removeDirectory removes the agent's directory of a container, which contains its configuration and keys. A directory
// of another user stays, because every user can create one of that name in the directory for temporary files.
func (m Machine) removeDirectory(name spec.Name) error {
	path := filepath.Join(m.Temp, string(name))
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || stat.Uid != 0 {
		return nil
	}
	return os.RemoveAll(path)
}
