// Package mountview creates the mount namespace, called a view, that the daemons of all containers of this host share.
//
// A view has its own root directory. It contains the host's programs and libraries (read-only), a few devices, /proc
// without the processes of other users, the directories of the containers, and the socket on which a daemon notifies
// systemd. Of the directories of the containers a daemon can open only its own (see package state). No other part of
// the host can be reached by a path: /etc has only empty files for the resolver, and there is no /var, no home
// directory, no D-Bus, no journal socket, and no network namespace below /run/netns.
//
// The namespace is created once, and each start of a daemon enters it. Options of systemd that hide paths
// (ProtectSystem, TemporaryFileSystem, …) would create a mount namespace for each program that a unit starts. The
// cost of that is proportional to the number of mounts on the host, and each named network namespace is a mount.
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

// Launcher is the path of svc-ipsec itself in a view.
const Launcher = "/run/svc-ipsec-launch"

// layout must be increased with each change of the contents of a view.
const layout = 1

// pins is the directory below the state directory in which the bind mounts of views are. A private tmpfs is mounted on
// it, because the kernel refuses to bind-mount a mount namespace at a place from which the mount would be propagated
// into that namespace.
const pins = ".view"

// lockTimeout is the maximum time to wait for another verb, which may be creating the view.
const lockTimeout = 10 * time.Second

// notifySocket is the socket on which a daemon notifies systemd that it is ready.
const notifySocket = "/run/systemd/notify"

// Ensure creates the view that has this executable as its Launcher, if it does not exist, and calls record with its
// path. record stores that the view is in use. RemoveUnused waits until record has returned.
func Ensure(ctx context.Context, stateDirectory, executable string, record func(view string) error) error {
	path, err := pathFor(stateDirectory, executable)
	if err != nil {
		return fmt.Errorf("make mount view: %w", err)
	}
	unlock, err := lockdir.Lock(ctx, stateDirectory, lockTimeout)
	if err != nil {
		return fmt.Errorf("make mount view: %w", err)
	}
	defer unlock()
	if !pinned(path) {
		if err := makePinDirectory(filepath.Dir(path)); err != nil {
			return fmt.Errorf("make mount view: %w", err)
		}
		if err := makeView(path, stateDirectory, executable); err != nil {
			return fmt.Errorf("make mount view: %w", err)
		}
	}
	return record(path)
}

// RemoveUnused removes the views that used does not return, except the one that Ensure would return for this
// executable. A daemon that runs in a removed view continues to use it, but cannot be started in it again.
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
	unlock, err := lockdir.Lock(ctx, stateDirectory, lockTimeout)
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

// remove removes a view, or a plain file in its place, which a killed verb can leave.
func remove(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: path is not a mount point
		return &fs.PathError{Op: "remove mount view: unmount", Path: path, Err: err}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove mount view: %w", err)
	}
	return nil
}

// pathFor returns the path of the view for an executable. The name contains the identity of the file. So a daemon that
// starts after an upgrade of the executable gets a new view, and a running daemon keeps the launcher that it was
// started with, even if that file was removed from the host.
func pathFor(stateDirectory, executable string) (string, error) {
	var file unix.Stat_t
	if err := unix.Stat(executable, &file); err != nil {
		return "", &fs.PathError{Op: "stat", Path: executable, Err: err}
	}
	name := fmt.Sprintf("%d-%x-%x-%x", layout, file.Dev, file.Ino, file.Ctim.Nano())
	return filepath.Join(stateDirectory, pins, name), nil
}

// pinned reports whether a namespace is bind-mounted at path.
func pinned(path string) bool {
	var system unix.Statfs_t
	return unix.Statfs(path, &system) == nil && system.Type == unix.NSFS_MAGIC
}

// makePinDirectory creates the directory for the bind mounts of views, with a private tmpfs on it.
func makePinDirectory(directory string) error {
	if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	mounted, err := isMountPoint(directory)
	if err != nil {
		return err
	}
	if !mounted {
		const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := mount("tmpfs", directory, "tmpfs", flags, "mode=700,size=64k"); err != nil {
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

// makeView creates the namespace and bind-mounts it at path.
//
// To prevent reference cycles, the kernel bind-mounts a mount namespace only if its id is higher than the id of the
// current mount namespace. Otherwise mount(2) returns EINVAL. Since Linux 6.18 each processor assigns ids from its own
// range, so a new namespace can have a lower id than the current one. A namespace that is created on the processor on
// which the current one was created has a higher id, so makeView tries all processors. In the initial namespace, which
// has the lowest id, the first attempt succeeds.
func makeView(path, stateDirectory, executable string) error {
	if err := os.WriteFile(path, nil, 0o400); err != nil {
		return err
	}
	err := makeViewOn(nil, path, stateDirectory, executable)
	for cpu := 0; errors.Is(err, unix.EINVAL) && cpu < maxCPUs; cpu++ {
		var cpus unix.CPUSet
		cpus.Set(cpu)
		if result := makeViewOn(&cpus, path, stateDirectory, executable); !errors.Is(result, errNoCPU) {
			err = result
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// maxCPUs is the number of processors in a unix.CPUSet.
const maxCPUs = 8 * int(unsafe.Sizeof(unix.CPUSet{}))

// errNoCPU means that a processor does not exist on the host or is not in the control group of this process.
var errNoCPU = errors.New("no such processor")

// makeViewOn creates the namespace on one of the given processors, or on any processor if cpus is nil.
func makeViewOn(cpus *unix.CPUSet, path, stateDirectory, executable string) error {
	created, bound, failed := make(chan int), make(chan struct{}), make(chan error, 1)
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
			created <- unix.Gettid()
			<-bound // until it is bind-mounted, the namespace exists only as long as this thread
			return nil
		})
	}()
	defer close(bound)
	select {
	case thread := <-created:
		return mount(fmt.Sprintf("/proc/self/task/%d/ns/mnt", thread), path, "", unix.MS_BIND, "")
	case err := <-failed:
		return err
	}
}

// enterNew moves the calling thread into a new mount namespace, and creates the contents of the view there.
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
	// pivot_root(".", ".") mounts the old root on top of the new one. It is then detached with all mounts below it.
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("change directory to the new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	// The root is remounted read-only last, because the steps before it create files in it.
	return mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
}

// devices are the device nodes in /dev of a view.
var devices = []string{"null", "zero", "full", "random", "urandom"}

// populate creates the contents of a view below root.
func populate(root, stateDirectory, executable string) error {
	at := func(path string) string { return filepath.Join(root, path) }
	for _, directory := range []string{
		"dev", "etc", "proc", "run/systemd", "sys", "tmp", "usr", "var", stateDirectory,
	} {
		if err := os.MkdirAll(at(directory), 0o755); err != nil {
			return err
		}
	}
	const readOnly = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := bind("/usr", at("usr"), readOnly, true); err != nil {
		return err
	}
	for _, name := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64"} {
		if err := bindOrLink(name, at(name), readOnly); err != nil {
			return err
		}
	}
	for _, name := range devices {
		if err := bindFile("/dev/"+name, at("dev/"+name), unix.MS_NOSUID|unix.MS_NOEXEC); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/hosts", "etc/resolv.conf"} { // Libreswan logs errors if they are missing
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
	// The bind mount is not recursive, so that the view does not contain the views themselves, and the namespaces that
	// are bind-mounted in the directories of containers.
	return bind(stateDirectory, at(stateDirectory), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, false)
}

// bindOrLink bind-mounts a directory of the host. If it is a symbolic link, as on hosts with a merged /usr, bindOrLink
// creates the same link. If it does not exist, bindOrLink does nothing.
func bindOrLink(source, target string, flags uintptr) error {
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

// bind bind-mounts source at target with the given flags. If recursive is set, it includes the mounts below source.
func bind(source, target string, flags uintptr, recursive bool) error {
	how, scope := uintptr(unix.MS_BIND), uint(0)
	if recursive {
		how, scope = how|unix.MS_REC, unix.AT_RECURSIVE
	}
	if err := mount(source, target, "", how, ""); err != nil {
		return err
	}
	var set uint64
	for flag, attribute := range map[uintptr]uint64{
		unix.MS_RDONLY: unix.MOUNT_ATTR_RDONLY,
		unix.MS_NOSUID: unix.MOUNT_ATTR_NOSUID,
		unix.MS_NODEV:  unix.MOUNT_ATTR_NODEV,
		unix.MS_NOEXEC: unix.MOUNT_ATTR_NOEXEC,
	} {
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
