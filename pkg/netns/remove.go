package netns

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	removePatience = 2 * halfMade
	removePause    = 5 * time.Millisecond
)

// Remove removes the name of our namespace, or a stale file; absent is success, ErrForeign another's. The namespace itself
// goes, with its veths, when its last process has left it and no file of it is open.
//
// What is unmounted is the very mount whose tag was read: a namespace that another gives the name meanwhile stays.
func (d Dir) Remove(name spec.Name) error {
	deadline := time.Now().Add(removePatience)
	for {
		err := d.locked(func() error { return d.removeLocked(name) })
		// EBUSY and ErrExists: another program has just mounted its namespace over the file; EINVAL: another unmounted first.
		again := errors.Is(err, unix.EBUSY) || errors.Is(err, ErrExists) || errors.Is(err, unix.EINVAL) || errors.Is(err, errHalfMade)
		if err == nil {
			return nil
		}
		if !again || time.Now().After(deadline) {
			return fmt.Errorf("remove namespace %s: %w", name, err)
		}
		time.Sleep(removePause)
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
