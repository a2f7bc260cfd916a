package health

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// ear is a server in a folder of its own; what it hears, and what it logs.
type ear struct {
	t      *testing.T
	folder string
	heard  chan *spec.Health
	log    bytes.Buffer
	stop   func()
}

func listening(t *testing.T) *ear {
	t.Helper()
	e := &ear{t: t, folder: t.TempDir(), heard: make(chan *spec.Health, 1000)}
	e.serve()
	return e
}

func (e *ear) serve() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := Serve(ctx, e.folder, func(h *spec.Health) { e.heard <- h }, slog.New(slog.NewTextHandler(&e.log, nil)))
	if err != nil {
		e.t.Fatal(err)
	}
	stopped := false
	e.stop = func() {
		if !stopped {
			cancel()
			if err := wait(); err != nil {
				e.t.Error(err)
			}
		}
		stopped = true
	}
	e.t.Cleanup(func() { e.stop() })
}

// send sends a datagram to where the contract has the socket.
func (e *ear) send(text string) {
	e.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: filepath.Join(e.folder, link), Net: "unixgram"})
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		e.t.Fatal(err)
	}
}

func (e *ear) next() *spec.Health {
	e.t.Helper()
	select {
	case h := <-e.heard:
		return h
	case <-time.After(10 * time.Second):
		e.t.Fatal("nothing was heard")
		return nil
	}
}

const good = `{"interfaceName":"vpn1","code":"RUNNING","connections":[{"id":"a","status":"ACTIVE"}],"again":{"after":1}}`

func TestWhatIsPushedIsHeardInItsOrder(t *testing.T) {
	e := listening(t)
	for range 3 {
		e.send(good)
		e.send(strings.Replace(good, "ACTIVE", "DOWN", 1))
	}
	for i := range 6 {
		h := e.next()
		want := map[bool]spec.ConnectionStatus{true: spec.Active, false: spec.Down}[i%2 == 0]
		if h.InterfaceName != "vpn1" || h.Connections[0].Status != want || h.Again.After != 1 {
			t.Errorf("heard %+v", h)
		}
	}
}

func TestWhatIsNoHealthIsRefusedAndLoggedOnce(t *testing.T) {
	e := listening(t)
	for _, bad := range []string{
		"", "x", "[]", `{"interfaceName":"vpn1"}`, `{"code":"RUNNING"}`, strings.Replace(good, "vpn1", "../x", 1), strings.Replace(good, "ACTIVE", "UP", 1),
		strings.Replace(good, `"after":1`, `"after":-1`, 1), strings.Replace(good, "RUNNING", "STOPPED", 1),
		good[:len(good)-1] + `,"message":"` + strings.Repeat("x", spec.HealthLimit) + `"}`,
	} {
		e.send(bad)
	}
	e.send(good)
	if h := e.next(); h.InterfaceName != "vpn1" || len(e.heard) != 0 {
		t.Errorf("heard %+v and %d more", h, len(e.heard))
	}
	e.stop()
	if lines := strings.Count(e.log.String(), "\n"); lines != 1 {
		t.Errorf("%d lines: %s", lines, e.log.String())
	}
}

func TestARefusalNamesItsContainerWhereThatCanBeRead(t *testing.T) {
	for datagram, want := range map[string]string{
		strings.Replace(good, "ACTIVE", "UP", 1):          ` container=vpn1 error="connections.status`,
		strings.Replace(good, `"RUNNING"`, "7", 1):        ` container=vpn1 error="not a health object`,
		strings.Replace(good, "vpn1", "../x", 1):          `msg="pushed health refused" error="interfaceName`,
		strings.Replace(good, `"vpn1"`, `"vpn1" oops`, 1): `msg="pushed health refused" error="not a health object`,
	} {
		e := listening(t)
		e.send(datagram)
		e.send(good)
		e.next()
		e.stop()
		if !strings.Contains(e.log.String(), want) {
			t.Errorf("%s: logged %s", datagram, e.log.String())
		}
	}
}

func TestTheSocketIsRootsAloneAndItsFolderOutlivesTheServer(t *testing.T) {
	e := listening(t)
	folder := filepath.Join(e.folder, "health")
	before, err := os.Stat(folder)
	if err != nil || before.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", before, err)
	}
	socket, err := os.Stat(filepath.Join(folder, spec.HealthSocket))
	if err != nil || socket.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", socket, err)
	}
	e.stop()
	e.serve()
	after, err := os.Stat(folder)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the folder is another one: %v", err)
	}
	e.send(good)
	e.next()
}

// FuzzParse looks for a panic, and for a health that would not pass the checks of those that it is handed on to.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"interfaceName":"vpn1","code":"RUNNING","connections":[{"status":"ACTIVE","pairs":[{"local":"\u0000"}]}]}`))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		h, err := parse(datagram)
		if err == nil && (h.Check() != nil || h.InterfaceName == "") {
			t.Errorf("%+v", h)
		}
	})
}
