package unit

import (
	"context"
	"errors"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ear collects the names of containers' units that change on one connection, each once until it is taken.
type ear struct {
	on    *connection
	units map[string]struct{} // guarded by on.listeners.mu
	wake  chan struct{}
}

func (e *ear) changedLocked(unit string) {
	if _, ok := spec.UnitOwner(unit); ok {
		e.addLocked(unit)
	}
}

func (e *ear) addLocked(unit string) {
	e.units[unit] = struct{}{}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *ear) take() map[string]struct{} {
	e.on.listeners.mu.Lock()
	defer e.on.listeners.mu.Unlock()
	units := e.units
	e.units = map[string]struct{}{}
	return units
}

func (c *connection) hear() *ear {
	e := &ear{on: c, units: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	c.listeners.mu.Lock()
	defer c.listeners.mu.Unlock()
	if c.listeners.ears == nil {
		c.listeners.ears = map[*ear]struct{}{}
	}
	c.listeners.ears[e] = struct{}{}
	return e
}

func (e *ear) forget() {
	e.on.listeners.mu.Lock()
	defer e.on.listeners.mu.Unlock()
	delete(e.on.listeners.ears, e)
}

// Follow calls changed with the name of each unit of a container (svc-<name>.service, svc-<name>:<role>.service) about
// which systemd signals a change, soon after it and from the caller's goroutine; several changes may be told once. ""
// means that any unit may have changed: at the start, after a daemon-reload, and when the connection was made anew.
// Signals are hints, List is the truth. Follow returns when the context ends or the Bus is closed, with the reason.
func (b *Bus) Follow(ctx context.Context, changed func(unit string)) error {
	for {
		began := time.Now()
		conn, err := b.connect(ctx)
		if errors.Is(err, errClosed) {
			return err
		}
		if err == nil {
			conn.follow(ctx, changed)
		}
		// A systemd that takes connections and drops them is not asked without end.
		if err != nil || time.Since(began) < b.limits.follow {
			_ = pause(ctx, b.limits.follow)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// follow reports changes until the connection or the context ends.
func (c *connection) follow(ctx context.Context, changed func(unit string)) {
	e := c.hear()
	defer e.forget()
	changed("")
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.Context().Done():
			return
		case <-e.wake:
			for unit := range e.take() {
				changed(unit)
			}
		}
	}
}
