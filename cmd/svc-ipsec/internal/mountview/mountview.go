// Package mountview makes the mount namespace that the daemons of all containers of this host share.
//
// A daemon sees a root of its own: the host's programs and libraries read-only, a few devices, /proc without the processes
// of others, the directories of the containers (a daemon can open its own alone, see package state) and the socket on which
// it notifies systemd. Nothing else of the host can be reached through a path: no /etc, no /var, no home, no D-Bus, no
// journal socket, no other namespace below /run/netns.
//
// The namespace is made once and entered by every start of a daemon. Options of systemd that hide paths (ProtectSystem,
// TemporaryFileSystem, …) would make a mount namespace for each program that a unit starts, at a cost in proportion to the
// number of mounts on the host, and every named network namespace is a mount.
package mountview

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/lockdir"
	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// Launcher is where svc-ipsec itself is found in a view.
const Launcher = "/run/svc-ipsec-launch"

// layout is increased with every change of what a view contains.
const layout = 1

// pins is the directory, below the state directory, in which views are kept. A private tmpfs is mounted on it: the kernel
// refuses to bind a mount namespace where the mount would be propagated into that namespace.
const pins = ".view"

// lockPatience is how long to wait for another verb, which may be making the view.
const lockPatience = 10 * time.Second

// notifySocket is where a daemon tells systemd that it is ready.
const notifySocket = "/run/systemd/notify"

// Ensure makes the view that has this executable as its Launcher, if there is none, and calls record with its path. Until record,
// which writes down the use of the view, has returned, RemoveUnused waits.
func Ensure(ctx context.Context, stateDirectory, executable string, record func(view string) error) error {
	path, err := pathFor(stateDirectory, executable)
	if err != nil {
		return fmt.Errorf("make mount view: %w", err)
	}
	unlock, err := lockdir.Lock(ctx, stateDirectory, lockPatience)
	if err != nil {
		return fmt.Errorf("make mount view: %w", err)
	}
	defer unlock()
	if !pinned(path) {
		if err := makePins(filepath.Dir(path)); err != nil {
			return fmt.Errorf("make mount view: %w", err)
		}
		if err := makeView(path, stateDirectory, executable); err != nil {
			return fmt.Errorf("make mount view: %w", err)
		}
	}
	return record(path)
}

// RemoveUnused removes every view that used does not return, except the one that Ensure would give for this executable. A daemon
// that runs in such a view keeps it, but could not be started in it again.
func RemoveUnused(ctx context.Context, stateDirectory, executable string, used func() (map[string]bool, error)) error {
	current, err := pathFor(stateDirectory, executable)
	if err != nil {
		return fmt.Errorf("remove mount views: %w", err)
	}
	entries, err := os.ReadDir(filepath.Dir(current))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove mount views: %w", err)
	}
	unlock, err := lockdir.Lock(ctx, stateDirectory, lockPatience)
	if err != nil {
		return fmt.Errorf("remove mount views: %w", err)
	}
	defer unlock()
	keep, err := used()
	if err != nil {
		return fmt.Errorf("remove mount views: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(filepath.Dir(current), entry.Name())
		if path != current && !keep[path] {
			err = errors.Join(err, remove(path))
		}
	}
	return err
}

// remove removes a view, or the plain file that is left of one.
func remove(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: it is not mounted
		return &fs.PathError{Op: "remove mount view: unmount", Path: path, Err: err}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove mount view: %w", err)
	}
	return nil
}

// pathFor returns the path of the view of an executable. The identity of the file is part of the name: a daemon that starts after an
// upgrade of the executable gets a new view, a daemon that runs keeps the launcher it was started with, also where that file
// was removed from the host.
func pathFor(stateDirectory, executable string) (string, error) {
	var file unix.Stat_t
	if err := unix.Stat(executable, &file); err != nil {
		return "", &fs.PathError{Op: "stat", Path: executable, Err: err}
	}
	return filepath.Join(stateDirectory, pins, fmt.Sprintf("%d-%x-%x-%x", layout, file.Dev, file.Ino, file.Ctim.Nano())), nil
}

// pinned reports whether a namespace is bound to the path.
func pinned(path string) bool {
	var system unix.Statfs_t
	return unix.Statfs(path, &system) == nil && system.Type == unix.NSFS_MAGIC
}

func makePins(directory string) error {
	if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	mounted, err := isMountPoint(directory)
	if err != nil {
		return err
	}
	if !mounted {
		if err := mount("tmpfs", directory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700,size=64k"); err != nil {
			return err
		}
	}
	return mount("", directory, "", unix.MS_PRIVATE, "")
}

func isMountPoint(path string) (bool, error) {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &stat); err != nil {
		return false, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// makeView makes the namespace and binds it to path.
//
// To prevent reference cycles, the kernel bind-mounts a mount namespace only if its id is higher than the id of the current mount
// namespace; otherwise mount(2) returns EINVAL. Since Linux 6.18 each processor assigns ids from a range of its own, so a new
// namespace can have a lower id than ours. One that is made on the processor where ours was made has a higher id. In the
// initial namespace, which has the lowest id, the first attempt succeeds.
func makeView(path, stateDirectory, executable string) error {
	if err := os.WriteFile(path, nil, 0o400); err != nil {
		return err
	}
	err := makeViewOn(nil, path, stateDirectory, executable)
	for cpu := 0; errors.Is(err, unix.EINVAL) && cpu < maxCPUs; cpu++ {
		var one unix.CPUSet
		one.Set(cpu)
		if made := makeViewOn(&one, path, stateDirectory, executable); !errors.Is(made, errNoCPU) {
			err = made
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// maxCPUs is the number of processors in a unix.CPUSet.
const maxCPUs = 8 * int(unsafe.Sizeof(unix.CPUSet{}))

// errNoCPU means that the host, or the control group of this process, does not have a processor.
var errNoCPU = errors.New("no such processor")

// makeViewOn makes the namespace on one of these processors, or on any with nil.
func makeViewOn(cpus *unix.CPUSet, path, stateDirectory, executable string) error {
	made, bound, failed := make(chan int), make(chan struct{}), make(chan error, 1)
	go func() {
		failed <- ownthread.Do(func() error {
			if cpus != nil {
				if err := unix.SchedSetaffinity(0, cpus); err != nil {
					return errNoCPU
				}
			}
			if err := enterNew(stateDirectory, executable); err != nil {
				return err
			}
			made <- unix.Gettid()
			<-bound // the namespace lives as long as this thread, until it is bound
			return nil
		})
	}()
	defer close(bound)
	select {
	case thread := <-made:
		return mount(fmt.Sprintf("/proc/self/task/%d/ns/mnt", thread), path, "", unix.MS_BIND, "")
	case err := <-failed:
		return err
	}
}

// enterNew moves the calling thread into a new mount namespace and makes the view there.
func enterNew(stateDirectory, executable string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := filepath.Join(stateDirectory, pins)
	if err := mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return err
	}
	if err := populate(root, stateDirectory, executable); err != nil {
		return err
	}
	// The old root is stacked on the new one, and detached with all that is mounted below it.
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("change directory to the new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	// The root is made read-only last, after everything in it was made.
	return mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
}

// devices are the nodes of /dev in a view.
var devices = []string{"null", "zero", "full", "random", "urandom"}

// populate makes the content of a view below root.
func populate(root, stateDirectory, executable string) error {
	at := func(path string) string { return filepath.Join(root, path) }
	for _, directory := range []string{"dev", "etc", "proc", "run/systemd", "sys", "tmp", "usr", "var", stateDirectory} {
		if err := os.MkdirAll(at(directory), 0o755); err != nil {
			return err
		}
	}
	const readOnly = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := bind("/usr", at("usr"), readOnly, true); err != nil {
		return err
	}
	for _, name := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64"} {
		if err := show(name, at(name), readOnly); err != nil {
			return err
		}
	}
	for _, name := range devices {
		if err := bindFile("/dev/"+name, at("dev/"+name), unix.MS_NOSUID|unix.MS_NOEXEC); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/hosts", "etc/resolv.conf"} { // Libreswan complains where they are missing
		if err := os.WriteFile(at(name), nil, 0o444); err != nil {
			return err
		}
	}
	const proc = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := mount("proc", at("proc"), "proc", proc, "hidepid=2"); err != nil {
		return err
	}
	if err := bind(at("proc/sys"), at("proc/sys"), readOnly|unix.MS_NOEXEC, false); err != nil {
		return err
	}
	if err := bindFile(notifySocket, at(notifySocket), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC); err != nil {
		return err
	}
	if err := bindFile(executable, at(Launcher), readOnly); err != nil {
		return err
	}
	// Not recursive: the views themselves, and namespaces that are bound in a container's directory, stay out.
	return bind(stateDirectory, at(stateDirectory), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, false)
}

// show makes a directory of the host visible, or the link that stands in its place where /usr is merged.
func show(source, target string, flags uintptr) error {
	info, err := os.Lstat(source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(to, target)
	}
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	return bind(source, target, flags, true)
}

func bindFile(source, target string, flags uintptr) error {
	if err := os.WriteFile(target, nil, 0o444); err != nil {
		return err
	}
	return bind(source, target, flags, false)
}

// bind mounts source on target with these flags, with what is mounted below source if recursive is set.
func bind(source, target string, flags uintptr, recursive bool) error {
	how, scope := uintptr(unix.MS_BIND), uint(0)
	if recursive {
		how, scope = how|unix.MS_REC, unix.AT_RECURSIVE
	}
	if err := mount(source, target, "", how, ""); err != nil {
		return err
	}
	var set uint64
	for flag, attribute := range map[uintptr]uint64{unix.MS_RDONLY: unix.MOUNT_ATTR_RDONLY, unix.MS_NOSUID: unix.MOUNT_ATTR_NOSUID,
		unix.MS_NODEV: unix.MOUNT_ATTR_NODEV, unix.MS_NOEXEC: unix.MOUNT_ATTR_NOEXEC} {
		if flags&flag != 0 {
			set |= attribute
		}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, scope, &unix.MountAttr{Attr_set: set}); err != nil {
		return &fs.PathError{Op: "mount_setattr", Path: target, Err: err}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		return &fs.PathError{Op: "mount", Path: target, Err: err}
	}
	return nil
}
