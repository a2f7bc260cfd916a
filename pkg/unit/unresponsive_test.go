package unit

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// fakeSystemd listens at a private socket and calls serve for each connection. It returns a Bus to the socket with
// short limits.
func fakeSystemd(t *testing.T, serve func(net.Conn)) *Bus {
	t.Helper()
	dir, err := os.MkdirTemp("", "svc") // t.TempDir can be too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "private"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			serving.Go(func() { serve(conn) })
		}
	})
	bus := newBus([]socket{{path: listener.Addr().String()}})
	second := time.Second
	bus.limits = limits{
		call: second / 4, wire: second / 4, redial: second / 2, follow: second / 10, job: second, cleanup: second,
	}
	t.Cleanup(func() {
		bus.Close()
		_ = listener.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		serving.Wait()
		_ = os.RemoveAll(dir)
	})
	return bus
}

// serveHandshake is the server's side of the D-Bus handshake (D-Bus specification, "Authentication Protocol").
func serveHandshake(conn net.Conn) *bufio.Reader {
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return in
		}
		switch line = strings.Trim(line, "\x00\r\n"); {
		case line == "AUTH":
			_, _ = conn.Write([]byte("REJECTED EXTERNAL\r\n"))
		case line == "BEGIN":
			return in
		case line == "NEGOTIATE_UNIX_FD":
			_, _ = conn.Write([]byte("ERROR\r\n"))
		case line == "AUTH EXTERNAL":
			_, _ = conn.Write([]byte("DATA\r\n"))
		default:
			_, _ = conn.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
		}
	}
}

// answerCalls serves the handshake and answers n calls that expect an answer with an empty list of units.
func answerCalls(conn net.Conn, n int) {
	in := serveHandshake(conn)
	noUnits := []systemd.UnitStatus{}
	for n > 0 {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		if call.Flags&dbus.FlagNoReplyExpected != 0 {
			continue
		}
		n--
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Body: []any{noUnits},
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
				dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(noUnits)),
			}}
		if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
			return
		}
	}
}

// unresponsiveServers are the ways in which a stopped or dying systemd fails to answer.
var unresponsiveServers = map[string]func(net.Conn){
	"it accepts and sends nothing":     func(net.Conn) {},
	"it stops within the handshake":    func(conn net.Conn) { _, _ = conn.Write([]byte("REJECTED EXT")) },
	"it answers no call":               func(conn net.Conn) { answerCalls(conn, 0) },
	"it answers one call and no other": func(conn net.Conn) { answerCalls(conn, 1) },
	"it closes at once":                func(conn net.Conn) { _ = conn.Close() },
	"it closes after the handshake":    func(conn net.Conn) { answerCalls(conn, 0); _ = conn.Close() },
	"it closes after the first answer": func(conn net.Conn) { answerCalls(conn, 1); _ = conn.Close() },
	"it does not use D-Bus":            func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad\r\n\r\n")) },
	"it sends an invalid message": func(conn net.Conn) {
		answerCalls(conn, 1)
		_, _ = conn.Write(make([]byte, 1<<16))
	},
}

func TestUnresponsiveSystemdCausesErrorInBoundedTime(t *testing.T) {
	for what, serve := range unresponsiveServers {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bus := fakeSystemd(t, serve)
			p := Transient{Name: "svc-a.service", ExecStart: Command{"/bin/true"}}
			p.Owner.Name = "a"
			for call, do := range map[string]func(context.Context) error{
				"list":    func(ctx context.Context) error { _, err := bus.List(ctx, "svc-*"); return err },
				"show":    func(ctx context.Context) error { _, err := bus.Show(ctx, "svc-a.service"); return err },
				"owner":   func(ctx context.Context) error { _, _, err := bus.Owner(ctx, "svc-a.service"); return err },
				"stop":    func(ctx context.Context) error { return bus.Stop(ctx, "svc-a.service") },
				"restart": func(ctx context.Context) error { return bus.Restart(ctx, "svc-a.service") },
				"start":   func(ctx context.Context) error { return bus.Start(ctx, p) },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				start := time.Now()
				err := do(ctx)
				cancel()
				if err == nil || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", call, err)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("%s took %s", call, took)
				}
				t.Logf("%s: %v", call, err)
			}
		})
	}
}
