package unit

import (
	"context"
	"errors"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// subscription collects the names of containers' units that change, as seen by one connection. A name is kept once
// until it is taken.
type subscription struct {
	conn  *connection
	units map[string]struct{} // guarded by conn.listeners.mu
	wake  chan struct{}       // receives a value after a name was added
}

func (s *subscription) changedLocked(unit string) {
	if _, ok := spec.UnitOwner(unit); ok {
		s.addLocked(unit)
	}
}

func (s *subscription) addLocked(unit string) {
	s.units[unit] = struct{}{}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) take() map[string]struct{} {
	s.conn.listeners.mu.Lock()
	defer s.conn.listeners.mu.Unlock()
	units := s.units
	s.units = map[string]struct{}{}
	return units
}

func (c *connection) subscribe() *subscription {
	s := &subscription{conn: c, units: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	c.listeners.mu.Lock()
	defer c.listeners.mu.Unlock()
	if c.listeners.subscriptions == nil {
		c.listeners.subscriptions = map[*subscription]struct{}{}
	}
	c.listeners.subscriptions[s] = struct{}{}
	return s
}

func (s *subscription) unsubscribe() {
	s.conn.listeners.mu.Lock()
	defer s.conn.listeners.mu.Unlock()
	delete(s.conn.listeners.subscriptions, s)
}

// Follow calls changed with the name of each unit of a container (svc-<name>.service or svc-<name>:<role>.service)
// for which systemd signals a change. It calls changed from the caller's goroutine, and once for several changes that
// follow each other quickly. The name "" means that any unit may have changed. Follow calls changed("") at the start,
// after a daemon-reload, and whenever it connected again. A call is only a hint: use List for the state of the units.
// Follow returns the reason when the context ends or the Bus is closed.
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
		// Avoid a busy loop if systemd accepts connections and closes them at once.
		if err != nil || time.Since(began) < b.limits.follow {
			_ = sleep(ctx, b.limits.follow)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// follow calls changed for each change until the connection or the context ends.
func (c *connection) follow(ctx context.Context, changed func(unit string)) {
	s := c.subscribe()
	defer s.unsubscribe()
	changed("")
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.bus.Context().Done():
			return
		case <-s.wake:
			for unit := range s.take() {
				changed(unit)
			}
		}
	}
}
