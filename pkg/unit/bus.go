package unit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// limits bound what a Bus waits for.
type limits struct {
	call   time.Duration // one call and its answer; systemd needs under a millisecond, or is busy with a daemon-reload
	wire   time.Duration // the handshake, and each write to a peer that does not read
	redial time.Duration // how long a dial, or a read, is tried again: daemon-reexec leaves nobody at the socket for a moment
	follow time.Duration // Follow's pause before it tries again what a redial did not reach
	job    time.Duration // a job, where the caller's context does not bound it
	undo   time.Duration // removing what a failed start left; a budget of its own, detached from the caller's
}

var usual = limits{
	call:   10 * time.Second,
	wire:   5 * time.Second,
	redial: 5 * time.Second,
	follow: time.Second,
	job:    3 * time.Minute,
	undo:   15 * time.Second,
}

const redialPause = 20 * time.Millisecond

// errClosed is what every call of a closed Bus answers.
var errClosed = errors.New("the bus is closed")

// Bus is the way to systemd. It is safe for use by several goroutines and costs nothing until its first call.
type Bus struct {
	sockets []socket
	limits  limits
	life    context.Context // until Close
	end     context.CancelFunc
	turn    chan struct{} // holds one token: who has it may look at conn and dial
	conn    *connection
}

// Open makes a Bus to this machine's systemd.
func Open() *Bus { return newBus(machineSockets()) }

// OpenAt makes a Bus to a systemd that listens at another private socket.
func OpenAt(path string) *Bus { return newBus([]socket{{path: path}}) }

func newBus(sockets []socket) *Bus {
	b := &Bus{sockets: sockets, limits: usual, turn: make(chan struct{}, 1)}
	b.life, b.end = context.WithCancel(context.Background())
	b.turn <- struct{}{}
	return b
}

// Close ends the connection, and with it every call that waits. A closed Bus is not opened again.
func (b *Bus) Close() {
	b.end()
	<-b.turn
	defer func() { b.turn <- struct{}{} }()
	if b.conn != nil {
		b.conn.close()
	}
}

// connect returns the connection, dialling if there is none that lives.
func (b *Bus) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	conn, err := b.connectUntil(ctx)
	switch {
	case b.life.Err() != nil:
		return nil, errClosed
	case err != nil:
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return conn, nil
}

func (b *Bus) connectUntil(ctx context.Context) (*connection, error) {
	select {
	case <-b.turn:
		defer func() { b.turn <- struct{}{} }()
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
		// Where there was a systemd, there will be one again.
		again := b.conn != nil || atReexec(err)
		if !again || time.Now().After(deadline) || pause(ctx, redialPause) != nil {
			return nil, err
		}
	}
}

// read makes a call that changes nothing and stores its answer. While connections break under it, it asks again: one
// daemon-reexec may follow another.
func (b *Bus) read(ctx context.Context, path dbus.ObjectPath, method string, args []any, answer ...any) error {
	ctx, cancel := context.WithTimeout(ctx, b.limits.call)
	defer cancel()
	deadline := time.Now().Add(b.limits.redial)
	for {
		conn, err := b.connect(ctx)
		if err != nil {
			return err
		}
		err = conn.call(ctx, path, method, args, answer...)
		if !errors.Is(err, errLost) || time.Now().After(deadline) || pause(ctx, redialPause) != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
