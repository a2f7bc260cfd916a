package unit

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// Stop stops a unit, waits until nothing of it runs, and clears its failed state, so that its name is free. Absent is
// success, one behind a mask too: a mask does not reach a transient unit that runs.
func (b *Bus) Stop(ctx context.Context, unit string) error {
	return wrap("stop", unit, b.stop(ctx, unit))
}

func (b *Bus) stop(ctx context.Context, unit string) error {
	var o outcome
	for try := 0; ; try++ {
		var err error
		o, err = b.job(ctx, unit, "StopUnit", unit, "replace")
		if isError(err, "NoSuchUnit") {
			return nil
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errLost) || try == lostTries {
			return err
		}
	}
	e, err := b.entry(ctx, unit)
	if err != nil {
		return err
	}
	u := e.unit()
	if !u.Gone() && !u.FailedForGood() {
		return fmt.Errorf("job %s, yet it is %s", o.result, u.State())
	}
	return b.resetFailed(ctx, unit)
}

// Restart stops a unit that runs and starts it again, and waits until it is up. A unit that does not come up is a
// *StartError, and is left to its restart policy.
func (b *Bus) Restart(ctx context.Context, unit string) error {
	o, err := b.job(ctx, unit, "RestartUnit", unit, "replace")
	if errors.Is(err, errLost) {
		var u Unit
		if u, err = b.settle(ctx, unit); err == nil && u.Running() {
			return nil
		}
		o.result = "lost"
	}
	if err != nil {
		return wrap("restart", unit, err)
	}
	if o.result != done {
		return &StartError{unit, o.result, b.exit(ctx, unit, o.exit)}
	}
	return nil
}

func (b *Bus) resetFailed(ctx context.Context, unit string) error {
	err := b.read(ctx, managerPath, manager+".ResetFailedUnit", []any{unit})
	if isError(err, "NoSuchUnit") {
		return nil
	}
	return err
}

// isError says whether systemd answered with its error of that name.
func isError(err error, name string) bool { return errorName(err) == "org.freedesktop.systemd1."+name }

// errorName is the name of the D-Bus error that was the answer, "" if there was none.
func errorName(err error) string {
	var answered dbus.Error
	_ = errors.As(err, &answered)
	return answered.Name
}
