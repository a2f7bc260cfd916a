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

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	destination = "org.freedesktop.systemd1"
	managerPath = dbus.ObjectPath("/org/freedesktop/systemd1")
	manager     = "org.freedesktop.systemd1.Manager"
	unitIface   = "org.freedesktop.systemd1.Unit"
	service     = "org.freedesktop.systemd1.Service"
	properties  = "org.freedesktop.DBus.Properties"
)

// socket is where systemd can be reached, directly or through a D-Bus daemon.
type socket struct {
	path   string
	daemon bool
}

func machineSockets() []socket {
	private, system := socket{path: "/run/systemd/private"}, socket{path: "/run/dbus/system_bus_socket", daemon: true}
	if os.Geteuid() == 0 {
		return []socket{private, system}
	}
	return []socket{system}
}

// connection is one live connection with what listens to its signals.
type connection struct {
	*dbus.Conn
	listeners listeners
}

// dialFirst dials the first socket that exists.
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

func dial(ctx context.Context, s socket, limit time.Duration) (*connection, error) {
	plain, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, "unix", s.path)
	if err != nil {
		return nil, err // names the path
	}
	// Authentication has no time-out of its own, and a stopped PID 1 still accepts.
	stop := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = plain.SetDeadline(time.Now().Add(limit))
	c := &connection{}
	c.Conn, err = dbus.NewConn(newWire(plain, limit, c.listeners.seen), dbus.WithSignalHandler(&c.listeners))
	if err != nil {
		_ = plain.Close()
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	if err := c.greet(ctx, s.daemon); err != nil {
		c.close()
		if errors.Is(err, errLost) {
			err = io.EOF // to the caller of dial nothing is lost yet
		}
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	if !stop() {
		c.close()
		return nil, fmt.Errorf("%s: %w", s.path, ctx.Err())
	}
	_ = plain.SetDeadline(time.Time{})
	return c, nil
}

func (c *connection) greet(ctx context.Context, daemon bool) error {
	// The number of the user, not the name: a look-up of the name would want libc.
	if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	if !daemon {
		return c.push(ctx)
	}
	if err := c.Hello(); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if err := c.AddMatchSignalContext(ctx, dbus.WithMatchSender(destination)); err != nil {
		return fmt.Errorf("ask for signals: %w", err)
	}
	return c.call(ctx, managerPath, manager+".Subscribe", nil)
}

// push makes sure that systemd looks at what it has read. Its bus reads the handshake in pieces of 256 bytes; a first
// message that comes in the same piece as the end of the handshake lies there until something else arrives (seen with
// 252), and a caller that waits for its answer waits for ever. A first message that does not fit in there gets through.
func (c *connection) push(ctx context.Context) error {
	nothing := []string{strings.Repeat("-", 512)}
	return c.call(ctx, managerPath, manager+".ListUnitsByPatterns", []any{[]string{}, nothing}, new([]entry))
}

func (c *connection) close() { _ = c.Close() }

// errLost says that the connection ended before an answer came: whether systemd did what was asked is not known.
var errLost = errors.New("the connection to systemd ended")

// call calls a method of systemd and stores the answer. errLost: the connection is closed, the next connect dials.
func (c *connection) call(ctx context.Context, path dbus.ObjectPath, method string, args []any, answer ...any) error {
	call := c.Object(destination, path).CallWithContext(ctx, method, 0, args...)
	var broken *net.OpError
	switch err := call.Err; {
	case err == nil:
		return call.Store(answer...)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("systemd does not answer: %w", err)
	case errors.Is(err, dbus.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &broken),
		left(err):
		c.close()
		return errLost
	default:
		return err
	}
}

// left says whether the D-Bus daemon answered in the place of a systemd that went from the bus, as daemon-reexec does.
func left(err error) bool {
	name, ofDaemon := strings.CutPrefix(errorName(err), "org.freedesktop.DBus.Error.")
	return ofDaemon && slices.Contains([]string{"NoReply", "Disconnected", "NameHasNoOwner", "ServiceUnknown"}, name)
}

// atReexec says whether a dial failed as it does while systemd executes itself anew.
func atReexec(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) ||
		errors.Is(err, unix.EAGAIN) || errors.Is(err, io.EOF)
}

// wire is a connection whose writes have a time-out: a peer that stopped reading must not hold up every caller. After the
// handshake it reads messages (see frames).
type wire struct {
	net.Conn
	in    io.Reader
	after *frames
	limit time.Duration
}

func newWire(conn net.Conn, limit time.Duration, dropped func(signalHeader) bool) *wire {
	in := bufio.NewReader(conn)
	return &wire{conn, in, &frames{in: in, dropped: dropped}, limit}
}

func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

// begin is the client's last line of the handshake. The D-Bus library starts to read messages after it.
const begin = "BEGIN\r\n"

func (w *wire) Write(p []byte) (int, error) {
	if string(p) == begin {
		w.in = w.after
	}
	_ = w.SetWriteDeadline(time.Now().Add(w.limit))
	return w.Conn.Write(p)
}
