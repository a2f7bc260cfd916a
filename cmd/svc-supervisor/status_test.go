package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/journal"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// serveRows serves sampleRows for the duration of the test, and returns the directory of the socket.
func serveRows(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	inventory, err := plugin.NewInventory(nil, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := api.Serve(ctx, filepath.Join(dir, "api.sock"), rowSource{reconcile.HostRow{ID: "h"}}, inventory,
		http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestStatusOfAContainer(t *testing.T) {
	row := sampleRows()[0]
	row.Restarts = 1
	row.Health.Message = "XFRM policies\x1b[31m guard"
	row.Health.Connections = []spec.Connection{
		{
			ID: "c1", Name: "office", Peer: "200.200.200.2", Status: spec.Active, Since: before(2 * time.Hour),
			Pairs: []spec.Pair{{
				Local: "10.1.0.0/24", Peer: "10.2.0.0/24", Status: spec.Active, BytesIn: 84, BytesOut: 168,
				Algorithms: "IKEv2 AES_CBC_256",
			}},
		},
		{
			ID: "c2", Peer: "200.200.200.3", Status: spec.Down, Reason: "no answer from the peer",
			Pairs: []spec.Pair{{Local: "10.1.0.0/24", Peer: "10.3.0.0/24", Status: spec.Down}},
		},
	}
	s := &containerStatus{
		Container: row,
		Record: &recordSummary{
			Phase:      statedir.Added,
			Container:  spec.Container{GroupID: "g1", ConfigurationID: "f1"},
			Executable: statedir.Executable{Path: "/usr/libexec/svc-supervisor/svc-ipsec"},
			Port:       &spec.Port{Addresses: []string{"169.254.0.1/30", "fd00::1/126"}, Bridge: "br0"},
		},
		Units: []unitSummary{
			{
				Name: "svc-vpn-60df5fda.service", State: "active (running)", PID: 42, Since: before(time.Hour),
				Restarts: 1,
			},
			{Name: "svc-vpn-60df5fda:dns.service", State: "failed (failed)", Exit: "exit-code: status 1"},
		},
		Namespace: "/run/netns/vpn-60df5fda",
	}
	var out strings.Builder
	if err := s.print(&out, now); err != nil {
		t.Fatal(err)
	}
	golden(t, "status.txt", out.String())
}

func TestStatusOfAnUnknownContainerIsAnError(t *testing.T) {
	_, _, err := svcSupervisor("status", "--run-dir", serveRows(t), "--state-dir", t.TempDir(), "none")
	if err == nil || err.Error() != "status none: no container has this name; svc-supervisor ps lists them" {
		t.Errorf("%v", err)
	}
}

// TestStatusAndWaitOfAHeldContainer uses vpn-8, whose type no plugin serves.
func TestStatusAndWaitOfAHeldContainer(t *testing.T) {
	dir := serveRows(t)
	stdout, _, err := svcSupervisor("status", "-o", "json", "--run-dir", dir, "--state-dir", t.TempDir(), "vpn-8")
	if err != nil || !strings.Contains(stdout, `"status": "HELD"`) || strings.Contains(stdout, `"record"`) {
		t.Errorf("%s, %v", stdout, err)
	}
	_, _, err = svcSupervisor("wait", "--timeout", "2s", "--run-dir", dir, "vpn-8")
	const want = "wait vpn-8: not running: after 2s: it is HELD: no executable serves type BGP"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestWaitConditions(t *testing.T) {
	up, down := spec.Connection{ID: "a", Status: spec.Active}, spec.Connection{ID: "b", Status: spec.Down}
	disabled := spec.Connection{ID: "c", Status: spec.Down, Disabled: true}
	row := func(status string, connections ...spec.Connection) reconcile.Row {
		return reconcile.Row{Name: "vpn", Status: status, Health: &spec.Health{Connections: connections}}
	}
	rejected := reconcile.Row{Name: "vpn", Status: "HELD", Reason: "name vpn is taken by port p1"}
	const none, starting, isDown = "no container has this name; svc-supervisor ps lists them", "it is STARTING",
		"connection b is down"
	for _, r := range []struct {
		name              string
		rows              []reconcile.Row
		unread            string
		running, up, gone string
	}{
		{"all connections are up", []reconcile.Row{row("RUNNING", up)}, "", "", "", "it is RUNNING"},
		{"a connection is down", []reconcile.Row{row("RUNNING", up, down)}, "", "", isDown, "it is RUNNING"},
		{"a disabled connection is ignored", []reconcile.Row{row("RUNNING", up, disabled)}, "", "", "",
			"it is RUNNING"},
		{"the connections are not known", []reconcile.Row{{Name: "vpn", Status: "RUNNING"}}, "", "",
			"its connections are not known yet, or its plugin reports none", "it is RUNNING"},
		{"the container is being added", []reconcile.Row{row("STARTING", down)}, "", starting, starting, starting},
		{"a second binding has the name", []reconcile.Row{rejected, row("RUNNING", up), rejected}, "", "", "",
			"it is RUNNING"},
		{"there is no such container", nil, "", none, none, ""},
		{"the host is unknown", nil, "no answer", none, none, "the host is unknown: no answer"},
	} {
		view := &api.Containers{Host: &reconcile.HostRow{Unread: r.unread}, Containers: r.rows}
		for condition, want := range map[string]string{"running": r.running, "up": r.up, "gone": r.gone} {
			if got := conditions[condition](view, "vpn"); got != want {
				t.Errorf("%s: not %s: %q, want %q", r.name, condition, got, want)
			}
		}
	}
}

func TestWaitEndsAtConditionTimeoutErrorAndSignal(t *testing.T) {
	calls := 0
	err := waitFor(t.Context(), time.Minute, func(context.Context) (string, error) {
		if calls++; calls < 3 {
			return "not yet", nil
		}
		return "", nil
	})
	if err != nil || calls != 3 {
		t.Errorf("%v after %d calls", err, calls)
	}
	never := func(context.Context) (string, error) { return "never", nil }
	if err := waitFor(t.Context(), time.Millisecond, never); err == nil || err.Error() != "after 1ms: never" {
		t.Errorf("at the timeout: %v", err)
	}
	denied := errors.New("permission denied")
	err = waitFor(t.Context(), time.Minute, func(context.Context) (string, error) { return "", denied })
	if !errors.Is(err, denied) {
		t.Errorf("at an error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := waitFor(ctx, time.Minute, never); err == nil || err.Error() != "interrupted" {
		t.Errorf("at a signal: %v", err)
	}
}

// TestHungSupervisorDoesNotExtendTheTimeout has a supervisor that answers the first request and no other.
func TestHungSupervisorDoesNotExtendTheTimeout(t *testing.T) {
	calls := 0
	begin := time.Now()
	err := waitFor(t.Context(), 300*time.Millisecond, func(ctx context.Context) (string, error) {
		if calls++; calls == 1 {
			return "it is STARTING", nil
		}
		<-ctx.Done()
		return "", ctx.Err()
	})
	if err == nil || err.Error() != "after 300ms: it is STARTING" || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestLogsSelectTheLinesAboutOneContainer(t *testing.T) {
	l := newContainerLog("vpn-1", []string{"svc-vpn-1.service", "svc-vpn-1:dns.service"})
	const matches = "_SYSTEMD_UNIT=svc-vpn-1.service + _PID=1 UNIT=svc-vpn-1.service" +
		" + _SYSTEMD_UNIT=svc-vpn-1:dns.service + _PID=1 UNIT=svc-vpn-1:dns.service" +
		" + _SYSTEMD_UNIT=svc-supervisor.service"
	if got := strings.Join(l.matches(), " "); got != matches {
		t.Errorf("journalctl %s", got)
	}
	for _, r := range []struct {
		unit, message string
		selects       bool
	}{
		{"svc-vpn-1.service", "any", true},
		{"init.scope", "Stopped svc-vpn-1.service", true},
		{supervisorUnit, "level=INFO msg=x container=vpn-1 verb=ADD", true},
		{supervisorUnit, "level=INFO msg=x interfaceName=vpn-1", true},
		{supervisorUnit, "level=INFO msg=x container=vpn-10 verb=ADD", false},
		{supervisorUnit, "level=INFO msg=x xcontainer=vpn-1", false},
		{supervisorUnit, `level=INFO msg="of \"another\" container=vpn-1 " container=vpn-2`, false},
	} {
		e := &journal.Entry{Unit: journal.Text(r.unit), Message: journal.Text(r.message)}
		if l.selects(e) != r.selects {
			t.Errorf("%s: %s: %v", r.unit, r.message, !r.selects)
		}
	}
}

// TestLogLineIsOnePrintableLine has the forms in which journalctl prints a message.
func TestLogLineIsOnePrintableLine(t *testing.T) {
	at := time.UnixMicro(1700000000123456).Format("2006-01-02 15:04:05.000")
	for message, want := range map[string]string{
		`"text"`:                      "text",
		`[97,27,91,51,49,109,10,98]`:  "a [31m b",
		`[255,97]`:                    "\ufffda",
		`["first","second"]`:          "first",
		`[[102,105,114,115,116],"x"]`: "first",
		`null`:                        "",
		`[null,null]`:                 "",
		`"a\u001b[31m\u202e b"`:       "a [31m  b",
	} {
		e := new(journal.Entry)
		err := json.Unmarshal([]byte(`{"__REALTIME_TIMESTAMP":"1700000000123456","_COMM":"pl\u001buto","MESSAGE":`+
			message+`}`), e)
		var out strings.Builder
		if err == nil {
			err = new(containerLog).print(&out, e)
		}
		if want := at + " pl uto: " + want + "\n"; err != nil || out.String() != want {
			t.Errorf("%s: %q, %v", message, out.String(), err)
		}
	}
}

// TestLogsReadTheJournal has a script in place of journalctl, which is the first program on the search path.
func TestLogsReadTheJournal(t *testing.T) {
	for _, r := range []struct {
		name, script   string
		stdout, stderr string
		err            string
	}{
		{
			"entries are merged by time",
			`case "$*" in
*--field*) printf 'svc-vpn.service\nsvc-vpn:dns.service\nsvc-vpn-2.service\n' ;;
*--lines=1\ *) ;;
*--grep*) echo '{"__REALTIME_TIMESTAMP":"2000000","_SYSTEMD_UNIT":"svc-supervisor.service","_COMM":"svc-supervisor",` +
				`"MESSAGE":"x container=vpn"}' ;;
*UNIT=svc-vpn:dns.service*) echo '{"__REALTIME_TIMESTAMP":"3000000","_COMM":"dns","MESSAGE":"later"}'
	echo '{"__REALTIME_TIMESTAMP":"1000000","_COMM":"pluto","MESSAGE":"earlier"}' ;;
esac`,
			"pluto: earlier|svc-supervisor: x container=vpn|dns: later|", "", "",
		},
		{
			"there are no entries", "exit 1", "",
			"the journal has no lines about vpn, or this user cannot read them\n", "",
		},
		{
			"journalctl fails", "echo no journal >&2; exit 1", "", "",
			"logs vpn: read the journal: exit status 1: no journal",
		},
	} {
		bin := t.TempDir()
		err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte("#!/bin/sh\n"+r.script+"\n"), 0o755)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		stdout, stderr, err := svcSupervisor("logs", "vpn")
		got := ""
		for line := range strings.Lines(stdout) {
			fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
			got += fields[len(fields)-1] + "|"
		}
		if got != r.stdout || stderr != r.stderr || (err != nil || r.err != "") && fmt.Sprint(err) != r.err {
			t.Errorf("%s: %q, %q, %v", r.name, got, stderr, err)
		}
	}
}

func TestInterruptedWaitFails(t *testing.T) {
	app := newApp()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := app.RunContext(ctx, []string{"svc-supervisor", "wait", "--run-dir", serveRows(t), "vpn-8"})
	if err == nil || err.Error() != "wait vpn-8: not running: interrupted" {
		t.Errorf("%v", err)
	}
}
