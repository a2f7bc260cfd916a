package netns

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

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
		err := d.locked(func() error { return d.removeLocked(name) })
		// EBUSY and ErrExists: another program has just mounted its namespace over the file. EINVAL: another program has
		// unmounted ours.
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
	if err := checkStale(d.Path(name)); err != nil {
		return err
	}
	if err := unix.Unlink(d.Path(name)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unlink: %w", err)
	}
	return nil
}
