package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// containerUID is the user id of container vpn1 in the tests.
const containerUID = 2100000001

func userIDs(uid uint32) (spec.Name, error) {
	if uid == containerUID {
		return "vpn1", nil
	}
	return "", nil
}

// Environment variables that make the test binary send one datagram and then wait to be killed.
const (
	sendTo    = "SVC_TEST_SEND_TO"     // the path of the socket
	sendText  = "SVC_TEST_SEND_TEXT"   // the datagram
	sendAs    = "SVC_TEST_SEND_AS"     // the user id to send with, after root has opened the socket
	sendFrom  = "SVC_TEST_SEND_FROM"   // the name of a new control group below the current one, to enter before sending
	sendAndGo = "SVC_TEST_SEND_AND_GO" // if not empty, end right after sending
)

func TestMain(m *testing.M) {
	if os.Getenv(sendTo) == "" {
		os.Exit(m.Run())
	}
	if err := sendOne(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(sendAndGo) == "" {
		time.Sleep(10 * time.Minute)
	}
}

func sendOne() error {
	if below := os.Getenv(sendFrom); below != "" {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return err
		}
		_, path, _ := strings.Cut(string(own), "0::")
		path, _, _ = strings.Cut(path, "\n")
		child := filepath.Join("/sys/fs/cgroup", path, below)
		if err := os.Mkdir(child, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(child, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: os.Getenv(sendTo), Net: "unixgram"})
	if err != nil {
		return err
	}
	if as := os.Getenv(sendAs); as != "" {
		uid, err := strconv.Atoi(as)
		if err != nil {
			return err
		}
		if err := unix.Setuid(uid); err != nil {
			return err
		}
	}
	_, err = conn.Write([]byte(os.Getenv(sendText)))
	return err
}

// buffer is a log that can be read while the server writes it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// testServer runs Serve in a temporary directory, and stores the received health objects and the log.
type testServer struct {
	t        *testing.T
	dir      string
	received chan *spec.Health
	log      buffer
	stop     func()
}

// newTestServer starts a server. It requires root, because other users cannot open the socket.
func newTestServer(t *testing.T) *testServer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	s := &testServer{t: t, dir: t.TempDir(), received: make(chan *spec.Health, 50000)}
	s.serve()
	return s
}

func (s *testServer) serve() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	receive := func(h *spec.Health) { s.received <- h }
	wait, err := Serve(ctx, s.dir, receive, userIDs, slog.New(slog.NewTextHandler(&s.log, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	stopped := false
	s.stop = func() {
		if !stopped {
			cancel()
			if err := wait(); err != nil {
				s.t.Error(err)
			}
		}
		stopped = true
	}
	s.t.Cleanup(func() { s.stop() })
}

// socket returns the path of the socket according to the contract.
func (s *testServer) socket() string { return filepath.Join(s.dir, link) }

func (s *testServer) dial() *net.UnixConn {
	s.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket(), Net: "unixgram"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (s *testServer) send(text string) {
	s.t.Helper()
	if _, err := s.dial().Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testServer) next() *spec.Health {
	s.t.Helper()
	select {
	case h := <-s.received:
		return h
	case <-time.After(30 * time.Second):
		s.t.Fatal("no health was received")
		return nil
	}
}

// lines stops the server and returns the lines of its log that contain a text.
func (s *testServer) lines(text string) []string {
	s.stop()
	var found []string
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

const good = `{"interfaceName":"vpn1","code":"RUNNING","connections":[{"id":"a","status":"ACTIVE"}],` +
	`"again":{"after":1}}`

func TestPushedHealthIsReceivedInOrder(t *testing.T) {
	s := newTestServer(t)
	for range 3 {
		s.send(good)
		s.send(strings.Replace(good, "ACTIVE", "DOWN", 1))
	}
	for i := range 6 {
		h := s.next()
		want := map[bool]spec.ConnectionStatus{true: spec.Active, false: spec.Down}[i%2 == 0]
		if h.InterfaceName != "vpn1" || h.Connections[0].Status != want || h.Again.After != 1 {
			t.Errorf("received %+v", h)
		}
	}
}

func TestInvalidDatagramsAreRefusedAndCounted(t *testing.T) {
	s := newTestServer(t)
	bad := []string{
		"", "x", "[]", `{"interfaceName":"vpn1"}`, `{"code":"RUNNING"}`,
		strings.Replace(good, "vpn1", "../x", 1), strings.Replace(good, "ACTIVE", "UP", 1),
		strings.Replace(good, `"after":1`, `"after":-1`, 1), strings.Replace(good, "RUNNING", "STOPPED", 1),
		good[:len(good)-1] + `,"message":"` + strings.Repeat("x", spec.HealthLimit) + `"}`,
	}
	for _, datagram := range bad {
		s.send(datagram)
	}
	s.send(good)
	if h := s.next(); h.InterfaceName != "vpn1" || len(s.received) != 0 {
		t.Errorf("received %+v and %d more", h, len(s.received))
	}
	lines := s.lines(refused)
	rest := fmt.Sprintf("count=%d\n", len(bad)-1)
	if len(lines) != 2 || !strings.Contains(lines[0], "count=1\n") || !strings.Contains(lines[1], rest) {
		t.Errorf("logged %q", lines)
	}
}

func TestRefusalNamesTheContainerOfTheDatagram(t *testing.T) {
	for datagram, want := range map[string]string{
		strings.Replace(good, "ACTIVE", "UP", 1):          ` container=vpn1 error="connections.status`,
		strings.Replace(good, `"RUNNING"`, "7", 1):        ` container=vpn1 error="not a health object`,
		strings.Replace(good, "vpn1", "../x", 1):          `msg="pushed health refused" error="interfaceName`,
		strings.Replace(good, `"vpn1"`, `"vpn1" oops`, 1): `msg="pushed health refused" error="not a health object`,
	} {
		s := newTestServer(t)
		s.send(datagram)
		s.send(good)
		s.next()
		if lines := s.lines(want); len(lines) != 1 {
			t.Errorf("%s: logged %s", datagram, s.log.String())
		}
	}
}

func TestOnlyRootOpensTheSocketAndItsDirectoryOutlivesTheServer(t *testing.T) {
	s := newTestServer(t)
	dir := filepath.Join(s.dir, "health")
	before, err := os.Stat(dir)
	if err != nil || before.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", before, err)
	}
	socket, err := os.Stat(filepath.Join(dir, spec.HealthSocket))
	if err != nil || socket.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", socket, err)
	}
	s.stop()
	s.serve()
	after, err := os.Stat(dir)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the directory was replaced: %v", err)
	}
	s.send(good)
	s.next()
}

// sender starts a process that sends a datagram to the server, with additional environment variables.
func (s *testServer) sender(text string, environment ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sendTo+"="+s.socket(), sendText+"="+text)
	cmd.Env = append(cmd.Env, environment...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// expect waits for the result of a datagram of another process. If refusal is "", the datagram must be accepted for the
// container name. Otherwise it must be refused, with a log line that contains refusal.
func (s *testServer) expect(name, refusal string) {
	s.t.Helper()
	if refusal == "" {
		if h := s.next(); string(h.InterfaceName) != name {
			s.t.Errorf("received %+v", h)
		}
		return
	}
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(s.log.String(), refusal) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not logged: %s\n%s", refusal, s.log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(s.received) != 0 {
		s.t.Errorf("received %+v", <-s.received)
	}
}

func TestUserIDOfAContainerReportsForThatContainerOnly(t *testing.T) {
	rows := []struct {
		sentence string
		uid      int
		name     string
		refusal  string // "" if the datagram is accepted
	}{
		{"its own container", containerUID, "vpn1", ""},
		{"another container", containerUID, "vpn2", "the sender belongs to container vpn1 and reports for vpn2"},
		{"a user id of no container", containerUID + 1, "vpn1", "belongs to no container"},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			s := newTestServer(t)
			s.sender(strings.Replace(good, "vpn1", row.name, 1), fmt.Sprintf("%s=%d", sendAs, row.uid))
			s.expect(row.name, row.refusal)
		})
	}
}

func TestEndedSenderIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	s := &testServer{t: t, dir: t.TempDir()}
	conn, err := listen(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sender := s.sender(good, sendAndGo+"=1")
	if err := sender.Wait(); err != nil {
		t.Fatal(err)
	}
	_, from, err := newSocket(conn).read(time.Now().Add(30 * time.Second))
	if err != nil || from.pid != sender.Process.Pid {
		t.Fatalf("sender %+v, error %v", from, err)
	}
	if allowed, err := (&server{userIDs: userIDs}).scopeOf(from); !errors.Is(err, errGone) {
		t.Errorf("allowed %+v, error %v", allowed, err)
	}
}

func TestPassedFileDescriptorsAreClosed(t *testing.T) {
	s := newTestServer(t)
	s.send(good)
	s.next()
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	raw, err := s.dial().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	before := open()
	for range 50 {
		rights := unix.UnixRights(int(os.Stderr.Fd()), int(os.Stderr.Fd()))
		var sendErr error
		err := raw.Control(func(fd uintptr) { sendErr = unix.Sendmsg(int(fd), []byte(good), rights, nil, 0) })
		if err := errors.Join(err, sendErr); err != nil {
			t.Fatal(err)
		}
		s.next()
	}
	if after := open(); after > before {
		t.Errorf("%d files are open, %d were open before", after, before)
	}
}

func TestFloodIsLimitedAndCounted(t *testing.T) {
	for _, datagram := range []string{good, `{"interfaceName":"vpn1",`, "garbage"} {
		s := newTestServer(t)
		conn := s.dial()
		begin := time.Now()
		const sent = 20000
		for range sent {
			if _, err := conn.Write([]byte(datagram)); err != nil {
				t.Fatal(err)
			}
		}
		s.send(strings.Replace(good, "vpn1", "vpn2", 1))
		for s.next().InterfaceName != "vpn2" { // then all datagrams before it have been read
		}
		limit := 100 + 1 + int(time.Since(begin)/(100*time.Millisecond))
		s.stop()
		counted := 0
		for _, line := range s.lines(" count=") {
			_, count, _ := strings.Cut(strings.TrimSpace(line), " count=")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			counted += n
		}
		if counted < sent-limit || counted > sent {
			t.Errorf("%s: %d of %d datagrams are counted as refused or dropped", datagram, counted, sent)
		}
		if lines := strings.Count(s.log.String(), "\n"); lines > 4 {
			t.Errorf("%s: %d lines: %s", datagram, lines, s.log.String())
		}
	}
}

func TestRatesOfContainersAreSeparate(t *testing.T) {
	var r rates
	now := time.Now()
	for range 2 * rate.Burst {
		r.take("vpn1", now)
	}
	if r.take("vpn1", now) || !r.take("vpn2", now) {
		t.Error("the rates of two containers are not separate")
	}
	r.take("vpn3", now.Add(time.Hour))
	if len(r.buckets) != 1 {
		t.Errorf("%d buckets are left of containers that no longer push", len(r.buckets)-1)
	}
}

func TestRefusalsAreLoggedAtOnceAndThenOnceAMinute(t *testing.T) {
	var log buffer
	r := newRefusals(slog.New(slog.NewTextHandler(&log, nil)))
	start := time.Now()
	key := refusal{"vpn1", dropped}
	for i := range 1000 {
		r.add(key, "vpn1", errRate, start.Add(time.Duration(i)*time.Millisecond))
	}
	text := log.String()
	if strings.Count(text, "\n") != 1 ||
		!strings.Contains(text, "container=vpn1") || !strings.Contains(text, "count=1\n") {
		t.Errorf("in the first second: logged %s", text)
	}
	r.add(refusal{"vpn2", dropped}, "vpn2", errRate, start)
	r.report(start.Add(quiet - time.Second))
	if due := r.due(); !due.Equal(start.Add(quiet)) {
		t.Errorf("the next report is due at %v", due.Sub(start))
	}
	r.report(start.Add(quiet))
	if strings.Count(log.String(), "count=999\n") != 1 || strings.Count(log.String(), "\n") != 3 {
		t.Errorf("after a minute: logged %s", log.String())
	}
	r.report(start.Add(3 * quiet))
	if !r.due().IsZero() || len(r.tallies) != 0 {
		t.Errorf("keys without new datagrams are left: %+v", r.tallies)
	}
}

func TestDecideScopeOfSender(t *testing.T) {
	const (
		inUnit  = "0::/svc.slice/svc-ipsec.slice/svc-vpn1.service\n"
		inSlice = "0::/svc.slice/svc-ipsec.slice/run-1.scope\n"
		outside = "0::/user.slice/user-0.slice/session-1.scope\n"
		sent    = time.Hour
	)
	rows := []struct {
		sentence string
		uid      uint32
		owner    spec.Name // of the user id
		process  process
		want     scope
		refused  bool
	}{
		{"root in a unit: the container of the unit", 0, "", process{groups: inUnit}, scope{name: "vpn1"}, false},
		{"exiting, root in a unit: the container of the unit", 0, "", process{groups: inUnit, exiting: true},
			scope{name: "vpn1"}, false},
		{"root in the slice and in no unit: none", 0, "", process{groups: inSlice}, scope{}, true},
		{"root elsewhere: every container", 0, "", process{groups: outside}, scope{every: true}, false},
		{"root in the root of a hierarchy, exiting: none", 0, "", process{groups: "1:name=systemd:/\n", exiting: true},
			scope{}, true},
		{"a user id of a container in its unit", 7, "vpn1", process{groups: inUnit}, scope{name: "vpn1"}, false},
		{"a user id of a container in the unit of another", 7, "vpn2", process{groups: inUnit}, scope{}, true},
		{"a user id of a container in no unit", 7, "vpn2", process{groups: outside}, scope{name: "vpn2"}, false},
		{"a user id of no container in a unit", 7, "", process{groups: inUnit}, scope{}, true},
		{"a user id of no container elsewhere", 7, "", process{groups: outside}, scope{}, true},
		{"a process that was started before the datagram was sent", 0, "", process{groups: inUnit, started: sent},
			scope{name: "vpn1"}, false},
		{"a process that got the pid after the datagram was sent", 0, "", process{groups: inUnit, started: sent + tick},
			scope{}, true},
	}
	for _, row := range rows {
		got, err := decide(sender{pid: 1, uid: row.uid, at: sent}, row.owner, row.process)
		if got != row.want || (err != nil) != row.refused {
			t.Errorf("%s: %+v, error %v", row.sentence, got, err)
		}
	}
}

func TestGroupOfFindsTheContainer(t *testing.T) {
	const unit = "/svc.slice/svc-ipsec.slice/svc-vpn1.service"
	rows := []struct {
		sentence, text string
		want           group
	}{
		{"version 2", "0::" + unit + "\n", group{"vpn1", true}},
		{"a further unit", "0::/svc.slice/svc-ipsec.slice/svc-vpn1:dns.service\n", group{"vpn1", true}},
		{"hybrid", "12:pids:/svc.slice/x\n1:name=systemd:" + unit + "\n0::" + unit + "\n", group{"vpn1", true}},
		{"hybrid, with systemd in version 1 alone", "1:name=systemd:" + unit + "\n0::/\n", group{"vpn1", true}},
		{"hybrid, exiting", "1:name=systemd:/\n0::" + unit + "\n", group{"vpn1", true}},
		{"a controller of version 1 does not count", "4:memory:" + unit + "\n0::/init.scope\n", group{}},
		{"below a unit", "0::" + unit + "/.control\n", group{"vpn1", true}},
		{"a group below a unit that is named as another unit", "0::" + unit + "/svc-vpn2.service\n",
			group{"vpn1", true}},
		{"below a group above systemd's", "0::/docker/1" + unit + "\n", group{"vpn1", true}},
		{"a unit outside the slice", "0::/system.slice/svc-vpn1.service\n", group{"vpn1", false}},
		{"the supervisor's own unit", "0::/system.slice/svc-supervisor.service\n", group{}},
		{"the slice alone", "0::/svc.slice/svc-ipsec.slice\n", group{"", true}},
		{
			"a unit whose name no container can have", "0::/svc.slice/svc-ipsec.slice/svc-an-overlong-name.service\n",
			group{"", true},
		},
		{"no control group", "", group{}},
	}
	for _, row := range rows {
		if got := groupOf(row.text); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.sentence, got, row.want)
		}
	}
}

func TestParseStatAllowsAnyProgramName(t *testing.T) {
	const rest = " S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 123 0 0"
	want := process{started: 1230 * time.Millisecond}
	for _, name := range []string{"(sh)", "(a b)", "() Z 1 1)", "(a\n)"} {
		if got, err := parseStat("17 " + name + rest); err != nil || got != want {
			t.Errorf("%s: %+v, error %v", name, got, err)
		}
	}
	for _, exiting := range []string{
		strings.Replace(rest, "S", "Z", 1), strings.Replace(rest, "4194560", "4194564", 1),
	} {
		if got, err := parseStat("17 (sh)" + exiting); err != nil || !got.exiting {
			t.Errorf("%s: %+v, error %v", exiting, got, err)
		}
	}
	for _, bad := range []string{"", "17 (sh) S 1", strings.Replace("17 (sh)"+rest, "123", "x", 1)} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

// FuzzParse checks that parse does not panic, and that every accepted health object passes the checks of its receivers.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(
		`{"interfaceName":"vpn1","code":"RUNNING","connections":[{"status":"ACTIVE","pairs":[{"local":"\u0000"}]}]}`))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		claimed(datagram)
		h, err := parse(datagram)
		if err == nil && (h.Check() != nil || h.InterfaceName == "") {
			t.Errorf("%+v", h)
		}
	})
}
