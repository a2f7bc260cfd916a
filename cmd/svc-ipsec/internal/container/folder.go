// Package container keeps what svc-ipsec itself must remember of a container between two verbs: one folder each, below
// /run/svc-ipsec, that exists as long as something of the container may.
//
// It promises that one verb at a time is at work on a name (the lock is on the folder itself, so that nothing of it is
// left when the folder goes), that files are private before a byte is in them, and that a file under its name is whole.
// The folder is on a tmpfs: a boot clears it, and the containers with it.
package container

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

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Root is where the folders are.
const Root = "/run/svc-ipsec"

// rootMode lets the users of containers reach their own directory by its name, and list none.
const rootMode = 0o711

// ErrBusy says that another verb was still at work on the container when the patience ended.
var ErrBusy = errors.New("another verb is at work on it")

// lockPause is how long to wait before the lock is tried again.
const lockPause = 10 * time.Millisecond

// Folder is a container's locked folder.
type Folder struct {
	Path string
	Name spec.Name
	file *os.File
	user uint32 // see Share
}

// Open locks the folder of a container, making it if there is none, and waits for it as long as patience lasts.
func Open(ctx context.Context, root string, name spec.Name, patience time.Duration) (*Folder, error) {
	if err := makeRoot(root); err != nil {
		return nil, err
	}
	return open(ctx, root, name, patience, true)
}

// Find locks the folder of a container that has one; otherwise the error is fs.ErrNotExist.
func Find(ctx context.Context, root string, name spec.Name, patience time.Duration) (*Folder, error) {
	return open(ctx, root, name, patience, false)
}

func makeRoot(root string) error {
	if err := os.Mkdir(root, rootMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make state folder: %w", err)
	}
	// Another's folder, or a link to one, could hand our files to others.
	info, err := os.Lstat(root)
	if err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("state folder %s: allowed: a directory of this user's that nobody else can write", root)
	}
	if info.Mode().Perm() != rootMode { // 0700, of version 0.1.0 or by the umask
		if err := os.Chmod(root, rootMode); err != nil {
			return fmt.Errorf("make state folder: %w", err)
		}
	}
	return nil
}

func open(ctx context.Context, root string, name spec.Name, patience time.Duration, create bool) (*Folder, error) {
	path := filepath.Join(root, string(name))
	deadline := time.Now().Add(patience)
	for {
		f, err := tryLock(path, create)
		if f != nil || err != nil {
			if err != nil {
				return nil, fmt.Errorf("lock %s: %w", path, err)
			}
			return &Folder{Path: path, Name: name, file: f}, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("lock %s: %w", path, ErrBusy)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

// tryLock returns nil and no error if the folder is another's at the moment, or was removed while its lock was taken.
func tryLock(path string, create bool) (*os.File, error) {
	if create {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) && create {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		var locked, named unix.Stat_t
		if unix.Fstat(fd, &locked) == nil && unix.Lstat(path, &named) == nil && locked.Ino == named.Ino && locked.Dev == named.Dev {
			return f, nil
		}
	}
	_ = f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, err
	}
	return nil, nil
}

// Close gives the lock back.
func (f *Folder) Close() { _ = f.file.Close() }

// Remove removes the folder with everything in it, while it is still locked.
func (f *Folder) Remove() error {
	if err := f.Unpin(); err != nil {
		return err
	}
	if err := os.RemoveAll(f.Path); err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	return nil
}

// RemoveIfEmpty removes a folder that was made for its lock alone.
func (f *Folder) RemoveIfEmpty() { _ = os.Remove(f.Path) }

// List names the containers that have a folder.
func List(root string) ([]spec.Name, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list state folders: %w", err)
	}
	var names []spec.Name
	for _, entry := range entries {
		if name, err := spec.ParseName("name", entry.Name()); err == nil && entry.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}
