package unit

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// lostTries bounds how often a call is made again because the connection ended under it.
const lostTries = 5

// Start starts a transient unit and waits until it is up: ready (Type Notify), or executed (Exec).
//
// ErrExists: a unit of the name is there and has not failed; it was not touched. *StartError: it did not come up. After
// any other error too nothing of it is left, or the error says what.
func (b *Bus) Start(ctx context.Context, t Transient) error {
	values, err := t.values()
	if err != nil {
		return wrap("start", t.Name, err)
	}
	asked, err := b.start(ctx, t.Name, values)
	var failed *StartError
	if !errors.As(err, &failed) {
		err = wrap("start", t.Name, err)
	}
	if err == nil || !asked {
		return err
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.limits.undo)
	defer cancel()
	// With Restart=, a unit whose start job failed is started again by systemd until somebody stops it.
	if left := b.Stop(undo, t.Name); left != nil {
		return fmt.Errorf("%w; then %w", err, left)
	}
	return err
}

// start says, beside its error, whether systemd may have begun to start the unit.
func (b *Bus) start(ctx context.Context, unit string, values []property) (asked bool, err error) {
	freed := false
	for try := 0; ; try++ {
		o, err := b.job(ctx, unit, "StartTransientUnit", unit, "replace", values, []auxiliary{})
		switch {
		case isError(err, "UnitExists") && asked:
			// It is ours, from the call whose answer was lost.
		case isError(err, "UnitExists") && freed:
			return false, fmt.Errorf("%w: %w", ErrExists, err) // systemd's words tell of a mask
		case isError(err, "UnitExists"):
			// A failed unit keeps its name, and one that was just stopped has it for a moment.
			freed = true
			if err := b.resetFailed(ctx, unit); err != nil {
				return false, err
			}
			continue
		case err != nil && !errors.Is(err, errLost):
			return asked || o.asked, err
		case o.result == done:
			return true, nil
		case o.result != "":
			return true, &StartError{unit, o.result, b.exit(ctx, unit, o.exit)}
		}
		asked = true
		u, err := b.settle(ctx, unit)
		if err != nil || u.Running() {
			return true, err
		}
		if !u.Gone() || try == lostTries {
			return true, &StartError{unit, "lost", b.exit(ctx, unit, o.exit)}
		}
		// The call was lost before systemd read it.
	}
}

// exit is how a unit ended whose job failed: as its signals told, else as its properties say.
func (b *Bus) exit(ctx context.Context, unit string, told Exit) Exit {
	if told.Code != 0 {
		return told
	}
	ctx = context.WithoutCancel(ctx)
	e, err := b.entry(ctx, unit)
	if err != nil || e.Path == "" {
		return told
	}
	var all map[string]dbus.Variant
	if err := b.read(ctx, e.Path, properties+".GetAll", []any{service}, &all); err != nil {
		return told
	}
	if exit := exitOf(all); exit.Result != success {
		return exit
	}
	return told
}
