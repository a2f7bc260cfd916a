package unit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// The tests of this file show why this package does not use a part of go-systemd. If one fails with a new version of
// go-systemd, the mechanism that refers to it can be removed.

// dialFake returns a go-systemd connection to a fake systemd, as go-systemd would make it.
func dialFake(t *testing.T, bus *Bus) (*systemd.Conn, error) {
	t.Helper()
	return systemd.NewConnection(func() (*dbus.Conn, error) {
		conn, err := dbus.Dial("unix:path=" + bus.sockets[0].path)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
	})
}

func TestGoSystemdConnectsWithoutTimeLimit(t *testing.T) {
	bus := fakeSystemd(t, func(conn net.Conn) { answerCalls(conn, 0) })
	connected := make(chan error, 1)
	go func() {
		_, err := dialFake(t, bus)
		connected <- err
	}()
	start := time.Now()
	if _, err := bus.List(t.Context(), "svc-*"); err == nil {
		t.Error("List succeeded")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("List took %s", took)
	}
	select {
	case err := <-connected:
		t.Errorf("go-systemd returned: %v", err)
	default:
	}
}

// TestGoSystemdLocksDuringCall queues two jobs at a systemd that does not answer. The second has a short time limit.
func TestGoSystemdLocksDuringCall(t *testing.T) {
	var connections atomic.Int32
	received := make(chan struct{}, 8)
	bus := fakeSystemd(t, func(conn net.Conn) {
		if connections.Add(1) == 2 { // the first is for calls, the second for signals
			answerCalls(conn, 1)
			return
		}
		for in := serveHandshake(conn); ; received <- struct{}{} {
			if _, err := dbus.DecodeMessage(in); err != nil {
				return
			}
		}
	})
	conn, err := dialFake(t, bus)
	must(t, err)
	const first, second = 2 * time.Second, 50 * time.Millisecond
	secondTakes := func(done chan<- string) time.Duration {
		ctx, cancel := context.WithTimeout(t.Context(), first)
		defer cancel()
		ended := make(chan error)
		go func() {
			_, err := conn.StopUnitContext(ctx, "svc-a.service", "replace", done)
			ended <- err
		}()
		<-received
		short, cancelShort := context.WithTimeout(t.Context(), second)
		defer cancelShort()
		start := time.Now()
		_, err := conn.StopUnitContext(short, "svc-b.service", "replace", done)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		took := time.Since(start)
		cancel()
		<-ended
		for len(received) > 0 {
			<-received
		}
		return took
	}
	if took := secondTakes(make(chan string, 2)); took < first/2 {
		t.Errorf("with a channel the second call took %s: it did not wait for the first", took)
	}
	if took := secondTakes(nil); took > first/2 {
		t.Errorf("without a channel the second call took %s", took)
	}
}

// goSystemd returns a connection that go-systemd made to the private socket.
func goSystemd(t testing.TB, ctx context.Context) *systemd.Conn {
	t.Helper()
	conn, err := systemd.NewSystemdConnectionContext(ctx)
	must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func TestGoSystemdLosesJobAtReexec(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-lost", "slow")
	values, err := p.values()
	must(t, err)
	done := make(chan string, 1)
	_, err = goSystemd(t, ctx).StartTransientUnitContext(ctx, p.Name, "replace", values, done)
	must(t, err)
	systemctl(t, "daemon-reexec")
	eventually(t, "the unit runs", func() bool { return show(t, p.Name, "SubState") == "running" })
	select {
	case result := <-done:
		t.Errorf("go-systemd reports the job as %s", result)
	case <-time.After(time.Second):
	}
}

func TestGoSystemdReportsNoExit(t *testing.T) {
	bus, ctx := sandbox(t)
	conn := goSystemd(t, ctx)
	updates := make(chan *systemd.PropertiesUpdate, 1000)
	conn.SetPropertiesSubscriber(updates, make(chan error, 1000))
	must(t, conn.Subscribe())
	p := program(t, bus, "u-noexit", "exit", "4")
	var failed *StartError
	if err := bus.Start(ctx, p); !errors.As(err, &failed) || failed.Exit.Status != 4 {
		t.Errorf("start: %v", err)
	}
	ended := false
	for !ended {
		select {
		case u := <-updates:
			if u.UnitName != p.Name {
				continue
			}
			for _, name := range []string{"Result", "ExecMainCode", "ExecMainStatus", "ExecStartPre"} {
				if value, ok := u.Changed[name]; ok {
					t.Errorf("go-systemd reports %s %s", name, value)
				}
			}
			state, ok := u.Changed["ActiveState"]
			ended = ok && state.Value() == "failed"
		case <-time.After(20 * time.Second):
			t.Fatal("go-systemd reports no failed unit")
		}
	}
}

// TestGoSystemdReportsNoReload checks the subscription to properties. The one to sub-states reports the units of a
// daemon-reload, but see TestGoSystemdReadsForeignUnits.
func TestGoSystemdReportsNoReload(t *testing.T) {
	bus, ctx := sandbox(t)
	n := startFollow(t, bus)
	conn := goSystemd(t, ctx)
	updates, errs := make(chan *systemd.PropertiesUpdate, 1000), make(chan error, 1000)
	conn.SetPropertiesSubscriber(updates, errs)
	must(t, conn.Subscribe())
	p := program(t, bus, "u-noreload", "ready")
	must(t, bus.Start(ctx, p))
	eventually(t, "go-systemd reports the start", func() bool { return len(updates) > 0 })
	for _, command := range []string{"daemon-reload", "daemon-reexec"} {
		n.waitQuiet("", p.Name)
		for len(updates) > 0 {
			<-updates
		}
		systemctl(t, command)
		eventually(t, "Follow reports "+command, func() bool { return n.count("") > 0 })
		time.Sleep(300 * time.Millisecond) // a report would arrive within this time
		for len(updates) > 0 {
			if u := <-updates; u.UnitName == p.Name {
				t.Errorf("go-systemd reports %v at %s", u.Changed, command)
			}
		}
		if len(errs) > 0 {
			t.Errorf("go-systemd reports an error at %s: %v", command, <-errs)
		}
	}
}

// TestGoSystemdReadsForeignUnits checks that the subscription to sub-states, which reads all properties of a unit
// before each report, does so for the units of other programs.
func TestGoSystemdReadsForeignUnits(t *testing.T) {
	bus, ctx := sandbox(t)
	conn := goSystemd(t, ctx)
	states := make(chan *systemd.SubStateUpdate, 1000)
	conn.SetSubStateSubscriber(states, make(chan error, 1000))
	must(t, conn.Subscribe())
	runTransient(t, bus, "u-foreign.service", "sleep", "60")
	eventually(t, "a report of the foreign unit", func() bool {
		for len(states) > 0 {
			if s := <-states; s.UnitName == "u-foreign.service" {
				return true
			}
		}
		return false
	})
}

// TestGoSystemdFirstMessage sends the end of the handshake and the first message of go-systemd at once. systemd also
// reads them at once if it is busy.
func TestGoSystemdFirstMessage(t *testing.T) {
	sandbox(t)
	addMatch := encodedCall(t, 1, 0, "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch",
		"type='signal', interface='org.freedesktop.systemd1.Manager', member='JobRemoved'")
	flush := encodedCall(t, 2, dbus.FlagNoReplyExpected, string(managerPath), "org.freedesktop.DBus.Peer", "Ping",
		strings.Repeat("-", 512))
	if size := len(begin + addMatch); size > 256 {
		t.Errorf("%d bytes", size)
	}
	answered := func(messages ...string) bool {
		conn, err := net.Dial("unix", "/run/systemd/private")
		must(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "\x00AUTH EXTERNAL 30\r\n")
		must(t, err)
		answer := make([]byte, 256)
		n, err := conn.Read(answer)
		must(t, err)
		if !strings.HasPrefix(string(answer[:n]), "OK ") {
			t.Fatalf("answer %q", answer[:n])
		}
		_, err = io.WriteString(conn, begin+strings.Join(messages, ""))
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
		for {
			m, err := dbus.DecodeMessage(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return false
			}
			must(t, err)
			if serial, ok := m.Headers[dbus.FieldReplySerial]; ok && serial.Value() == uint32(1) {
				return true
			}
		}
	}
	if !answered(flush, addMatch) {
		t.Error("no answer after the long message")
	}
	if answered(addMatch) && strings.HasPrefix(systemctl(t, "--version"), "systemd 252 ") {
		t.Error("systemd 252 answers without the long message")
	}
}

// encodedCall returns a call as the D-Bus library encodes it.
func encodedCall(t *testing.T, serial uint32, flags dbus.Flags, path, iface, member, argument string) string {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeMethodCall, Flags: flags, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(path)), dbus.FieldInterface: dbus.MakeVariant(iface),
		dbus.FieldMember: dbus.MakeVariant(member), dbus.FieldDestination: dbus.MakeVariant("org.freedesktop.DBus"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("")),
	}, Body: []any{argument}}
	var b bytes.Buffer
	must(t, m.EncodeTo(&b, binary.LittleEndian))
	binary.LittleEndian.PutUint32(b.Bytes()[8:], serial)
	return b.String()
}

// BenchmarkGoSystemdConnect is BenchmarkConnect with the two connections that go-systemd makes.
func BenchmarkGoSystemdConnect(b *testing.B) {
	_, ctx := sandbox(b)
	for b.Loop() {
		conn, err := systemd.NewSystemdConnectionContext(ctx)
		must(b, err)
		_, err = conn.ListUnitsByPatternsContext(ctx, nil, []string{"svc-none.service"})
		must(b, err)
		conn.Close()
	}
}
