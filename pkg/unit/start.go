package unit

import (
	"context"
	"errors"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// lostTries limits how often a call is repeated because the connection was lost during it.
const lostTries = 5

// Start starts a transient unit and waits until it is up: ready (Type Notify), or executed (Exec).
//
// It returns ErrExists if a unit with this name exists and has not failed. It does not touch that unit. It returns a
// *StartError if the unit did not come up. After any error but ErrExists nothing of the unit is left; if the removal
// failed, the error says so.
func (b *Bus) Start(ctx context.Context, t Transient) error {
	values, err := t.values()
	if err != nil {
		return wrap("start", t.Name, err)
	}
	maybeStarted, err := b.start(ctx, t.Name, values)
	var failed *StartError
	if !errors.As(err, &failed) {
		err = wrap("start", t.Name, err)
	}
	if err == nil || !maybeStarted {
		return err
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.limits.cleanup)
	defer cancel()
	// With Restart=, systemd restarts a unit whose start job failed until the unit is stopped.
	if stopErr := b.Stop(cleanup, t.Name); stopErr != nil {
		return fmt.Errorf("%w; then %w", err, stopErr)
	}
	return err
}

// start starts a unit. maybeStarted reports whether systemd may have begun to start it, also if err is not nil.
func (b *Bus) start(ctx context.Context, unit string, values []systemd.Property) (maybeStarted bool, err error) {
	start := func(c *systemd.Conn, ctx context.Context, unit, mode string, done chan<- string) (int, error) {
		return c.StartTransientUnitContext(ctx, unit, mode, values, done)
	}
	freed := false
	for try := 0; ; try++ {
		o, err := b.job(ctx, unit, start)
		switch {
		case isSystemdError(err, "UnitExists") && maybeStarted:
			// An earlier call, whose answer was lost, started this unit.
		case isSystemdError(err, "UnitExists") && freed:
			return false, fmt.Errorf("%w: %w", ErrExists, err) // the error of systemd names a mask as the cause
		case isSystemdError(err, "UnitExists"):
			// A failed unit keeps its name, and a stopped unit keeps it for a moment. Free the name once. For a unit
			// that is restarted again and again this would reset its counters.
			s, statusErr := b.status(ctx, unit)
			if u := unitOf(s); statusErr == nil && (u.Running() || u.Transitional()) {
				return false, fmt.Errorf("%w: %w", ErrExists, err)
			}
			freed = true
			if err := b.resetFailed(ctx, unit); err != nil {
				return false, err
			}
			continue
		case err != nil && !errors.Is(err, errConnectionLost):
			return maybeStarted || o.maybeQueued, err
		case o.result == jobDone:
			return true, nil
		case o.result != "":
			return true, &StartError{unit, o.result, b.readExit(ctx, unit, o.exit)}
		}
		maybeStarted = true
		u, err := b.waitIdle(ctx, unit)
		if err != nil || u.Running() {
			return true, err
		}
		if !u.Gone() || try == lostTries {
			return true, &StartError{unit, "lost", b.readExit(ctx, unit, o.exit)}
		}
		// The connection was lost before systemd read the call. Try again.
	}
}

// readExit returns how a unit whose job failed has ended. It prefers fromSignals, which was read from the signals of
// systemd, and otherwise reads the properties of the unit.
func (b *Bus) readExit(ctx context.Context, unit string, fromSignals Exit) Exit {
	if fromSignals.Code != 0 {
		return fromSignals
	}
	ctx = context.WithoutCancel(ctx)
	s, err := b.status(ctx, unit)
	if err != nil || s.Path == "" {
		return fromSignals
	}
	all, err := read(ctx, b, func(ctx context.Context, conn *systemd.Conn) (map[string]any, error) {
		return conn.GetUnitTypePropertiesContext(ctx, unit, "Service")
	})
	if err != nil {
		return fromSignals
	}
	if exit := exitOf(all); exit.Result != success {
		return exit
	}
	return fromSignals
}
