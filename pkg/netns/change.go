package netns

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	// makeTimeout is how long Make retries while another program creates or deletes the same name, makeInterval the
	// time between two attempts.
	makeTimeout  = 3 * mountGrace
	makeInterval = 5 * time.Millisecond
)

// Make makes the namespace owner.Name with the owner tag, and brings up its lo. With a user id other than 0 the
// namespace is owned by a user namespace of that user. A plain file of that name is replaced. The error wraps
// ErrNoUserNamespaces if the host does not allow user namespaces, and ErrExists if a namespace of that name exists,
// whoever owns it. An existing namespace is not changed.
//
// If `ip netns add` creates the same name at the same time, exactly one of the two succeeds: both create the file with
// O_EXCL, and Make replaces a file of another program without a mount only after a second.
func (d Dir) Make(owner spec.Owner, user uint32) error {
	if err := d.makeNamed(owner, user); err != nil {
		return fmt.Errorf("make namespace %s: %w", owner.Name, err)
	}
	return nil
}

func (d Dir) makeNamed(owner spec.Owner, user uint32) error {
	namespace, err := newTagged(owner, user)
	if err != nil {
		return err
	}
	defer namespace.Close()
	deadline := time.Now().Add(makeTimeout)
	for {
		err := d.directory.locked(func() error {
			if err := d.directory.shareLocked(); err != nil {
				return err
			}
			return d.directory.mountLocked(int(namespace.Fd()), owner.Name)
		})
		// ENOENT: `ip netns del` removed the file before the mount.
		temporary := errors.Is(err, errBeingMade) || errors.Is(err, unix.ENOENT)
		if !temporary || time.Now().After(deadline) {
			return err
		}
		time.Sleep(makeInterval)
	}
}

const (
	// removeTimeout is how long Remove retries while another program changes the same name, removeInterval the time
	// between two attempts.
	removeTimeout  = 2 * mountGrace
	removeInterval = 5 * time.Millisecond
)

// Remove removes the name of a namespace that is ours, or a stale file. It returns nil if there is nothing with this
// name, and an error that wraps ErrForeign if it is not ours. The kernel removes the namespace itself, with its veths,
// when no process is in it and no file of it is open any more.
//
// Remove unmounts the mount whose tag it has read. A namespace that another program mounts under this name in the
// meantime is not unmounted.
func (d Dir) Remove(name spec.Name) error {
	deadline := time.Now().Add(removeTimeout)
	for {
		err := d.directory.locked(func() error { return d.removeLocked(name) })
		// EBUSY and ErrExists: another program has just mounted its namespace over the file. EINVAL: another program
		// has unmounted ours.
		temporary := errors.Is(err, unix.EBUSY) || errors.Is(err, ErrExists) ||
			errors.Is(err, unix.EINVAL) || errors.Is(err, errBeingMade)
		if err == nil {
			return nil
		}
		if !temporary || time.Now().After(deadline) {
			return fmt.Errorf("remove namespace %s: %w", name, err)
		}
		time.Sleep(removeInterval)
	}
}

func (d Dir) removeLocked(name spec.Name) error {
	file, state, _, err := d.open(name)
	if err != nil || state == Absent {
		return err
	}
	if state == Foreign {
		return ErrForeign
	}
	if state == Ours {
		defer file.Close()
		if err := unix.Unmount(descriptorPath(int(file.Fd())), unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount: %w", err)
		}
	}
	if err := checkStale(d.directory.file(name)); err != nil {
		return err
	}
	if err := unix.Unlink(d.directory.file(name)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unlink: %w", err)
	}
	return nil
}
