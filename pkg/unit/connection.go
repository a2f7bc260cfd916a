package unit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	destination = "org.freedesktop.systemd1"
	managerPath = dbus.ObjectPath("/org/freedesktop/systemd1")
	manager     = "org.freedesktop.systemd1.Manager"
	service     = "org.freedesktop.systemd1.Service"
	properties  = "org.freedesktop.DBus.Properties"
)

// socket is a socket at which systemd can be reached, either directly or through a D-Bus daemon.
type socket struct {
	path   string
	daemon bool // a D-Bus daemon listens at the socket
}

// machineSockets returns the sockets of this machine's systemd in the order in which they are tried.
func machineSockets() []socket {
	private, system := socket{path: "/run/systemd/private"}, socket{path: "/run/dbus/system_bus_socket", daemon: true}
	if os.Geteuid() == 0 {
		return []socket{private, system}
	}
	return []socket{system}
}

// connection is one live connection with the listeners for its signals. go-systemd makes the calls on bus.
type connection struct {
	*systemd.Conn
	bus       *dbus.Conn
	listeners listeners
}

// dialFirst dials the first socket that exists. limit bounds the handshake.
func dialFirst(ctx context.Context, sockets []socket, limit time.Duration) (*connection, error) {
	var err error
	for _, s := range sockets {
		var conn *connection
		if conn, err = dial(ctx, s, limit); err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return nil, err
}

// dial connects and authenticates within limit. NewSystemdConnectionContext of go-systemd would wait forever for a
// systemd that does not answer, because its handshake has no time limit (TestGoSystemdConnectsWithoutTimeLimit).
func dial(ctx context.Context, s socket, limit time.Duration) (*connection, error) {
	raw, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, "unix", s.path)
	if err != nil {
		return nil, err // the error contains the path
	}
	// The kernel accepts connections for a stopped PID 1.
	_ = raw.SetDeadline(time.Now().Add(limit))
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &connection{}
	filtered := newFilteringConn(raw, limit, c.listeners.handleHeader)
	c.bus, err = dbus.NewConn(filtered, dbus.WithSignalHandler(&c.listeners))
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	c.listeners.ended = c.bus.Context()
	err = c.handshake(ctx, s.daemon)
	switch {
	case !stop():
		err = ctx.Err()
	case errors.Is(err, errConnectionLost):
		err = io.EOF // a failed dial loses no call of the caller; isReexecError recognizes io.EOF
	}
	if err != nil {
		_ = c.bus.Close()
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	_ = raw.SetDeadline(time.Time{})
	return c, nil
}

// handshake authenticates. If the peer is a D-Bus daemon, it also subscribes to the signals of systemd.
func (c *connection) handshake(ctx context.Context, daemon bool) error {
	// Authenticate with the user id. Looking up the user name would need libc.
	if err := c.bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	systemd1 := c.bus.Object(destination, managerPath)
	greet := c.bus.Hello
	if !daemon {
		greet = func() error { return flushHandshake(systemd1) }
	}
	if err := c.classify(greet()); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	var err error
	// go-systemd asks for one connection for calls and another for signals. With two, systemd would do two handshakes
	// with each program, and send each signal twice (BenchmarkGoSystemdConnect). NewConnection makes a call, and
	// ignores its error.
	c.Conn, err = systemd.NewConnection(func() (*dbus.Conn, error) { return c.bus, nil })
	switch {
	case err != nil:
		return err
	case !c.Connected():
		return errConnectionLost
	case !daemon:
		return nil
	}
	// go-systemd's Subscribe requests neither UnitRemoved nor Reloading.
	if err := c.bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(destination)); err != nil {
		return fmt.Errorf("add signal match: %w", err)
	}
	return c.classify(systemd1.CallWithContext(ctx, manager+".Subscribe", 0).Err)
}

// flushHandshake makes sure that systemd processes the messages that it has read. systemd's D-Bus library reads the
// handshake in pieces of 256 bytes. If the first message arrives in the same piece as the end of the handshake,
// systemd does not process it until more data arrives (seen with systemd 252), and a caller that waits for the answer
// waits forever. The first message of go-systemd is as short (TestGoSystemdFirstMessage). A first message that does not
// fit into the piece is processed, so flushHandshake sends one with 512 bytes of arguments, which needs no answer.
func flushHandshake(systemd1 dbus.BusObject) error {
	return systemd1.Go("org.freedesktop.DBus.Peer.Ping", dbus.FlagNoReplyExpected, nil, strings.Repeat("-", 512)).Err
}

// errConnectionLost means that the connection ended before the answer arrived. It is not known whether systemd did
// what the call asked for.
var errConnectionLost = errors.New("connection to systemd lost")

// classify returns the error of a call of systemd, or errConnectionLost in its place. In that case it has closed the
// connection, and the next connect dials again.
func (c *connection) classify(err error) error {
	var broken *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("systemd does not answer: %w", err)
	case errors.Is(err, dbus.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, &broken), systemdLeftBus(err):
		_ = c.bus.Close()
		return errConnectionLost
	default:
		return err
	}
}

// systemdLeftBus reports whether the answer is an error of the D-Bus daemon because systemd left the bus, as it does
// at a daemon-reexec.
func systemdLeftBus(err error) bool {
	name, fromDaemon := strings.CutPrefix(errorName(err), "org.freedesktop.DBus.Error.")
	return fromDaemon && slices.Contains([]string{"NoReply", "Disconnected", "NameHasNoOwner", "ServiceUnknown"}, name)
}

// isReexecError reports whether a dial failed in a way that is usual during a daemon-reexec.
func isReexecError(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) ||
		errors.Is(err, unix.EAGAIN) || errors.Is(err, io.EOF)
}

// filteringConn is a connection to systemd. Each write has a time-out, because a peer that stopped reading must not
// block every caller. After the handshake, reads go through a messageFilter.
type filteringConn struct {
	net.Conn
	in     io.Reader
	filter *messageFilter // replaces in after the handshake
	limit  time.Duration  // of each write
}

func newFilteringConn(conn net.Conn, limit time.Duration, dropped func(signalHeader) bool) *filteringConn {
	in := bufio.NewReader(conn)
	return &filteringConn{conn, in, &messageFilter{in: in, dropped: dropped}, limit}
}

func (c *filteringConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// begin is the last line that a client sends in the handshake. The D-Bus library starts to read messages after it.
const begin = "BEGIN\r\n"

func (c *filteringConn) Write(p []byte) (int, error) {
	if string(p) == begin {
		c.in = c.filter
	}
	_ = c.SetWriteDeadline(time.Now().Add(c.limit))
	return c.Conn.Write(p)
}
