// Package state stores the data of a container that svc-ipsec needs in later verbs. Each container has one directory
// below /run/svc-ipsec, with the file state.json and the files of the daemon.
//
// The directory of a container exists as long as any part of the container may exist. Only one verb at a time works on
// a container. Its lock is on the directory itself, so no lock file remains when the directory is removed. A file has
// its final mode before the first byte is written to it, and gets its name only when it is complete. /run is a tmpfs,
// so a reboot removes the directories together with the containers.
//
// Reading order: directory.go (the lock), state.go (state.json), found.go (one section of it), old.go (the files of
// release 0.1.0), files.go (writing, and what the daemon may read), pin.go (bind mounts of network namespaces).
package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/internal/lockdir"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Root is the parent of the containers' directories.
const Root = "/run/svc-ipsec"

// rootMode lets the user id of a container reach its own directory by name, but not list the directories.
const rootMode = 0o711

// ErrBusy is returned if another verb held the lock of the container during the whole waiting time.
var ErrBusy = errors.New("another verb holds its lock")

// Directory is the locked directory of one container.
type Directory struct {
	Path string
	Name spec.Name
	user uint32 // see Share

	unlock func()
}

// Open locks the directory of a container, and creates it if it does not exist. It waits for the lock for at most
// timeout.
func Open(ctx context.Context, root string, name spec.Name, timeout time.Duration) (*Directory, error) {
	if err := makeRoot(root); err != nil {
		return nil, err
	}
	return open(ctx, root, name, timeout, true)
}

// Find locks the directory of a container. It waits for the lock for at most timeout. If the directory does not exist,
// the error is fs.ErrNotExist.
func Find(ctx context.Context, root string, name spec.Name, timeout time.Duration) (*Directory, error) {
	return open(ctx, root, name, timeout, false)
}

func makeRoot(root string) error {
	if err := os.Mkdir(root, rootMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create state directory: %w", err)
	}
	// If root is a directory of another user, or a link to one, that user could read and replace the files in it.
	info, err := os.Lstat(root)
	if err != nil {
		return fmt.Errorf("create state directory: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("state directory %s must be a directory that belongs to this user and "+
			"that no other user can write", root)
	}
	if info.Mode().Perm() != rootMode { // 0700 if release 0.1.0 created it, or another mode because of the umask
		if err := os.Chmod(root, rootMode); err != nil {
			return fmt.Errorf("create state directory: %w", err)
		}
	}
	return nil
}

func open(ctx context.Context, root string, name spec.Name, timeout time.Duration, create bool) (*Directory, error) {
	path := filepath.Join(root, string(name))
	clock := busyclock.Start()
	for {
		if create {
			if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("lock %s: %w", path, err)
			}
		}
		unlock, err := lockdir.Lock(ctx, path, timeout-clock.Elapsed())
		switch {
		case err == nil:
			return &Directory{Path: path, Name: name, unlock: unlock}, nil
		case errors.Is(err, lockdir.ErrBusy):
			return nil, fmt.Errorf("lock %s: %w", path, ErrBusy)
		case create && errors.Is(err, fs.ErrNotExist):
			continue // the verb that held the lock has removed the directory
		}
		return nil, err
	}
}

// Read is Load without the lock, for programs that only read the state of a container.
func Read(root string, name spec.Name) (*State, error) {
	return (&Directory{Path: filepath.Join(root, string(name)), Name: name}).Load()
}

// Files returns the files of the directory. Those that the daemon may read are for the user id of the last call of
// Share.
func (d *Directory) Files() Files { return Files{directory: d.Path, user: d.user} }

// Pin returns the place in the directory for a bind mount of the container's network namespace.
func (d *Directory) Pin() Pin { return Pin(filepath.Join(d.Path, "netns")) }

// Share gives the user id of the container access to the directory. Its daemon can then reach files in the directory by
// name, but cannot list or open the directory itself. A process that can open the directory can lock it, and all verbs
// would wait for that lock. Files.WriteShared and SharedDir create files and directories that the daemon can read, and
// OwnedDir creates a directory that it can write. With user 0, only root has access, as in release 0.1.0.
func (d *Directory) Share(user uint32) error {
	d.user = user
	return d.Files().setOwner(".", 0, 0o710)
}

// User returns the user id with which the directory was shared, or 0 if it was not shared. It is the group of the
// directory.
func (d *Directory) User() (uint32, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(d.Path, &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: d.Path, Err: err}
	}
	return stat.Gid, nil
}

// Close releases the lock.
func (d *Directory) Close() { d.unlock() }

// Remove removes the directory and its contents. The lock is held until Close.
func (d *Directory) Remove() error {
	if err := d.Pin().Remove(); err != nil {
		return err
	}
	if err := os.RemoveAll(d.Path); err != nil {
		return fmt.Errorf("remove state directory: %w", err)
	}
	return nil
}

// RemoveIfEmpty removes the directory if it is empty, as after Open has created it.
func (d *Directory) RemoveIfEmpty() { _ = os.Remove(d.Path) }

// List returns the names of the containers that have a directory.
func List(root string) ([]spec.Name, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list state directories: %w", err)
	}
	var names []spec.Name
	for _, entry := range entries {
		if name, err := spec.ParseName("name", entry.Name()); err == nil && entry.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}
