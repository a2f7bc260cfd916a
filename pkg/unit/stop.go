package unit

import (
	"context"
	"errors"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Stop stops a unit, waits until nothing of it runs, and clears its failed state, so that its name is free. It
// succeeds if the unit does not exist, also if the name is masked: a mask has no effect on a transient unit that
// runs.
func (b *Bus) Stop(ctx context.Context, unit string) error {
	return wrap("stop", unit, b.stop(ctx, unit))
}

func (b *Bus) stop(ctx context.Context, unit string) error {
	var o jobOutcome
	for try := 0; ; try++ {
		var err error
		o, err = b.job(ctx, unit, (*systemd.Conn).StopUnitContext)
		if isSystemdError(err, "NoSuchUnit") {
			return nil
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errConnectionLost) || try == lostTries {
			return err
		}
	}
	s, err := b.status(ctx, unit)
	if err != nil {
		return err
	}
	u := unitOf(s)
	if !u.Gone() && !u.FailedForGood() {
		return fmt.Errorf("job %s, but the unit is %s", o.result, u.State())
	}
	return b.resetFailed(ctx, unit)
}

// Restart stops a running unit, starts it again, and waits until it is up. If the unit does not come up, Restart
// returns a *StartError and leaves the unit to its restart policy.
func (b *Bus) Restart(ctx context.Context, unit string) error {
	before, err := b.show(ctx, unit)
	if err != nil {
		return wrap("restart", unit, err)
	}
	for try := 0; ; try++ {
		o, err := b.job(ctx, unit, (*systemd.Conn).RestartUnitContext)
		switch {
		case err == nil && o.result == jobDone:
			return nil
		case err == nil:
			return &StartError{unit, o.result, b.readExit(ctx, unit, o.exit)}
		case !errors.Is(err, errConnectionLost):
			return wrap("restart", unit, err)
		}
		if _, err := b.waitIdle(ctx, unit); err != nil {
			return wrap("restart", unit, err)
		}
		now, err := b.show(ctx, unit)
		switch {
		case err != nil:
			return wrap("restart", unit, err)
		case now.Running() && now.Invocation != before.Invocation:
			return nil
		case !now.Running() || try == lostTries:
			return &StartError{unit, "lost", b.readExit(ctx, unit, o.exit)}
		}
		// The connection was lost before systemd read the call. Try again.
	}
}

func (b *Bus) resetFailed(ctx context.Context, unit string) error {
	_, err := read(ctx, b, func(ctx context.Context, conn *systemd.Conn) (none struct{}, err error) {
		return none, conn.ResetFailedUnitContext(ctx, unit)
	})
	if isSystemdError(err, "NoSuchUnit") {
		return nil
	}
	return err
}

// isSystemdError reports whether systemd answered with its error of this name.
func isSystemdError(err error, name string) bool {
	return errorName(err) == "org.freedesktop.systemd1."+name
}

// errorName returns the name of the D-Bus error that was the answer, and "" if err is no D-Bus error.
func errorName(err error) string {
	var answered dbus.Error
	_ = errors.As(err, &answered)
	return answered.Name
}
