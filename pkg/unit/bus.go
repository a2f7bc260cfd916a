package unit

import (
	"context"
	"errors"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// limits are the time limits of a Bus.
type limits struct {
	// one call with its answer; systemd answers within 1 ms, unless it is busy with a daemon-reload
	call    time.Duration
	wire    time.Duration // the handshake, and each write, since the peer may have stopped reading
	redial  time.Duration // repeated dials and reads; during a daemon-reexec nothing listens at the socket for a moment
	follow  time.Duration // the pause of Follow after a connection failed or ended quickly
	job     time.Duration // a job, if the caller's context has no earlier deadline
	cleanup time.Duration // the removal of a unit whose start failed; independent of the caller's context
}

var defaultLimits = limits{
	call:    10 * time.Second,
	wire:    5 * time.Second,
	redial:  5 * time.Second,
	follow:  time.Second,
	job:     3 * time.Minute,
	cleanup: 15 * time.Second,
}

const redialPause = 20 * time.Millisecond

// errClosed is the error of every call of a closed Bus.
var errClosed = errors.New("the bus is closed")

// Bus accesses systemd over D-Bus. It is safe for concurrent use. It connects at its first call, and again after the
// connection was lost, which go-systemd does not do.
type Bus struct {
	sockets []socket
	limits  limits
	ctx     context.Context // canceled by Close
	cancel  context.CancelFunc
	token   chan struct{} // holds one token; only its holder may use conn and dial
	conn    *connection
}

// Open returns a Bus to the systemd of this machine.
func Open() *Bus { return newBus(machineSockets()) }

func newBus(sockets []socket) *Bus {
	b := &Bus{sockets: sockets, limits: defaultLimits, token: make(chan struct{}, 1)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.token <- struct{}{}
	return b
}

// Close closes the connection, and ends every call that is waiting. A closed Bus cannot be opened again.
func (b *Bus) Close() {
	b.cancel()
	<-b.token
	defer func() { b.token <- struct{}{} }()
	if b.conn != nil {
		b.conn.Close()
	}
}

// connect returns the connection. It dials if there is no live connection.
func (b *Bus) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	conn, err := b.connectUntil(ctx)
	switch {
	case b.ctx.Err() != nil:
		return nil, errClosed
	case err != nil:
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return conn, nil
}

func (b *Bus) connectUntil(ctx context.Context) (*connection, error) {
	select {
	case <-b.token:
		defer func() { b.token <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	deadline := time.Now().Add(b.limits.redial)
	for {
		conn, err := dialFirst(ctx, b.sockets, b.limits.wire)
		if err == nil {
			b.conn = conn
			return conn, nil
		}
		// If this Bus was connected before, systemd exists and will listen again.
		retry := b.conn != nil || isReexecError(err)
		if !retry || time.Now().After(deadline) || sleep(ctx, redialPause) != nil {
			return nil, err
		}
	}
}

// read makes a call that may be repeated. If the connection is lost, it makes the call again, until the limit redial:
// one daemon-reexec may follow another.
func read[T any](
	ctx context.Context, b *Bus, call func(context.Context, *systemd.Conn) (T, error),
) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.limits.call)
	defer cancel()
	deadline := time.Now().Add(b.limits.redial)
	for {
		conn, err := b.connect(ctx)
		if err != nil {
			return answer, err
		}
		answer, err = call(ctx, conn.Conn)
		err = conn.classify(err)
		if !errors.Is(err, errConnectionLost) || time.Now().After(deadline) || sleep(ctx, redialPause) != nil {
			return answer, err
		}
	}
}

// sleep waits for d, or until the context ends, and returns the error of the context in that case.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
