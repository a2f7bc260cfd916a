package zoom

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// connection runs the operations of an NSDB in its session. The client library cannot cancel a request, so an operation
// may continue in a goroutine after its caller has returned. close waits for these goroutines.
type connection struct {
	location Location
	log      *slog.Logger
	session  *session

	ctx        context.Context // ends at close
	shutdown   context.CancelFunc
	goroutines sync.WaitGroup
}

// newConnection returns a connection that calls onConnected after each (re)connect. It opens no session yet.
func newConnection(location Location, log *slog.Logger, onConnected func()) *connection {
	c := &connection{location: location, log: log, session: newSession(location, log)}
	c.ctx, c.shutdown = context.WithCancel(context.Background())
	c.session.onConnected = onConnected
	return c
}

func (c *connection) close() {
	c.shutdown()
	c.session.close()
	c.goroutines.Wait()
}

// fault wraps an error with the endpoint and the path of a node. An error that has both already is returned unchanged.
func (c *connection) fault(path string, err error) error {
	var known *nodeError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &nodeError{c.location.Endpoint(), path, describe(err)}
}

// runUntilDone runs a function in a goroutine. It returns the function's error, or an error about path when ctx ends.
// The function then continues.
func (c *connection) runUntilDone(ctx context.Context, path string, do func() error) error {
	done := make(chan error, 1)
	c.goroutines.Go(func() { done <- do() })
	select {
	case <-ctx.Done():
		return c.fault(path, c.session.waitError(ctx))
	case err := <-done:
		return err
	}
}

// runInSession waits for a session and runs an operation. It repeats the operation if the connection is lost meanwhile,
// so the operation must be idempotent. ctx limits the whole call.
func runInSession[T any](ctx context.Context, conn *connection, operation func(*client) (T, error)) (T, error) {
	for {
		var nothing T
		c, err := conn.session.await(ctx)
		if err != nil {
			return nothing, err
		}
		type answer struct {
			value T
			err   error
		}
		results := make(chan answer, 1)
		conn.goroutines.Go(func() {
			value, err := operation(c)
			results <- answer{value, err}
		})
		select {
		case <-ctx.Done():
			return nothing, conn.session.waitError(ctx)
		case a := <-results:
			if !connectionLost(a.err) {
				return a.value, a.err
			}
		}
		select { // the session learns of the lost connection a moment later
		case <-ctx.Done():
			return nothing, conn.session.waitError(ctx)
		case <-time.After(retryPause):
		}
	}
}

// retryPause is the time between a lost connection and the next attempt.
const retryPause = 20 * time.Millisecond
