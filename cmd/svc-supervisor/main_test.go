package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// svcSupervisor runs the program with the given arguments and returns its output.
func svcSupervisor(args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	app := newApp()
	app.Writer, app.ErrWriter = &out, &errOut
	err = app.Run(append([]string{"svc-supervisor"}, args...))
	return out.String(), errOut.String(), err
}

// The test runs itself as the program that gets the signals, with the variable of role set.
func TestSecondSignalEndsTheProcessAtOnce(t *testing.T) {
	const role = "SVC_TEST_WAIT_FOR_SIGNAL"
	if os.Getenv(role) != "" {
		ctx, stop := untilSignal(t.Context())
		defer stop()
		fmt.Println("started")
		<-ctx.Done()
		fmt.Println("stopping")
		time.Sleep(time.Minute)
		return
	}
	program := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	program.Env = append(os.Environ(), role+"=1")
	stdout, err := program.StdoutPipe()
	if err == nil {
		err = program.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(10*time.Second, func() { _ = program.Process.Kill() })
	defer kill.Stop()
	signalled := func() bool { return program.Process.Signal(syscall.SIGTERM) == nil }
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		switch lines.Text() {
		case "started":
			signalled()
		case "stopping":
			go func() { // repeated, because a signal that comes at the same moment may count as part of the first
				for signalled() {
					time.Sleep(10 * time.Millisecond)
				}
			}()
		}
	}
	_ = program.Wait()
	if status := program.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("the process ended with %v", program.ProcessState)
	}
}

// golden compares got with a file in testdata. If UPDATE=1 is set in the environment, it writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *time.Time {
	at := now.Add(-d)
	return &at
}

func sampleRows() []reconcile.Row {
	up, down := spec.Connection{ID: "a", Status: spec.Active}, spec.Connection{ID: "b", Status: spec.Down}
	return []reconcile.Row{
		{
			Name: "vpn-60df5fda", Type: "IPSEC", Version: "1.4.0", Status: "RUNNING",
			Units:   []string{"svc-vpn-60df5fda.service"},
			AddedAt: before(3*time.Hour + 5*time.Minute), PortID: "p1", ContainerID: "c1",
			Health: &spec.Health{Code: spec.Running, Connections: []spec.Connection{up, down}},
		},
		{
			Name: "vpn-7", Type: "IPSEC", Version: "1.4.0", Status: "RUNNING", AddedAt: before(12 * time.Second),
			Units:  []string{"svc-vpn-7.service", "svc-vpn-7:dns.service"},
			Health: &spec.Health{Code: spec.Running, Message: "no kernel ESP:\nnothing\tpasses \x1b[31m"},
		},
		{Name: "vpn-8", Type: "BGP", Status: "HELD", Reason: "no executable serves type BGP"},
		{Name: "vpn-9", Status: "UNKNOWN", Reason: "damaged record: unexpected end of JSON input"},
	}
}

func TestContainerTable(t *testing.T) {
	var out bytes.Buffer
	if err := printRows(&out, &api.Containers{Containers: sampleRows()}, now); err != nil {
		t.Fatal(err)
	}
	golden(t, "ps.txt", out.String())
}

func TestReasonIsThatOfTheFirstDownConnection(t *testing.T) {
	up, down := spec.Connection{ID: "a", Status: spec.Active},
		spec.Connection{ID: "b", Name: "to-peer", Status: spec.Down}
	refused := spec.Connection{ID: "c", Status: spec.Down, Reason: "psk: missing"}
	disabled := spec.Connection{ID: "d", Status: spec.Down, Reason: "adminStateUp is false", Disabled: true}
	noted := spec.Connection{ID: "e", Status: spec.Active, Reason: "edit refused: mtu"}
	for _, r := range []struct {
		name        string
		row         string
		connections []spec.Connection
		want        string
	}{
		{"all are up", "", []spec.Connection{up}, ""},
		{"no connections", "", nil, ""},
		{"one is kept down", "", []spec.Connection{disabled, up}, ""},
		{"down without a reason", "", []spec.Connection{up, down}, "connection to-peer is down"},
		{"down with a reason", "", []spec.Connection{disabled, refused}, "connection c is down: psk: missing"},
		{
			"a down connection with a reason comes first", "", []spec.Connection{noted, down, refused},
			"connection c is down: psk: missing (and 1 more)",
		},
		{"a reason of one that is up", "", []spec.Connection{up, noted}, "connection e: edit refused: mtu"},
		{"the supervisor's own reason comes first", "held", []spec.Connection{refused}, "held"},
	} {
		row := reconcile.Row{Reason: r.row, Health: &spec.Health{Message: "a general note", Connections: r.connections}}
		if got := reason(row); got != r.want {
			t.Errorf("%s: %q, want %q", r.name, got, r.want)
		}
	}
}

func TestExecutableTable(t *testing.T) {
	var out bytes.Buffer
	app := newApp()
	app.Writer = &out
	view := &api.Plugins{
		Executables: []api.Executable{
			{
				Path: "/opt/svc/bin/svc-bgp", Type: "BGP", Version: "0.3.0", Selected: true,
				Unready: "no bird installed\n(code 50)",
			},
			{Path: "/usr/libexec/svc-supervisor/svc-ipsec", Type: "IPSEC", Version: "1.10.0", Reconfigure: true,
				Selected: true},
			{Path: "/opt/svc/bin/svc-ipsec", Type: "IPSEC", Version: "1.9.0", Unready: "no ipsec"},
		},
		Refused: []api.Refused{{Path: "/opt/svc/bin/a\nb", Reason: "not executable"}},
	}
	if err := printPlugins(cli.NewContext(app, flag.NewFlagSet("", flag.PanicOnError), nil), view); err != nil {
		t.Fatal(err)
	}
	golden(t, "plugins.txt", out.String())
}

type rowSource struct{ host reconcile.HostRow }

func (s rowSource) Rows() []reconcile.Row      { return sampleRows() }
func (s rowSource) HostRow() reconcile.HostRow { return s.host }

func TestPsShowsTheRowsOfTheSupervisor(t *testing.T) {
	dir := t.TempDir()
	inventory, err := plugin.NewInventory(nil, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	rows := rowSource{reconcile.HostRow{ID: "h", Unread: "no Host object\n"}}
	wait, err := api.Serve(ctx, filepath.Join(dir, "api.sock"), rows, inventory, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, psErr := svcSupervisor("ps", "--run-dir", dir)
	asJSON, _, jsonErr := svcSupervisor("ps", "-o", "json", "--run-dir", dir)
	plugins, _, pluginsErr := svcSupervisor("plugins", "-o", "json", "--run-dir", dir)
	cancel()
	if err := errors.Join(psErr, jsonErr, pluginsErr, wait()); err != nil {
		t.Fatal(err)
	}
	if strings.Count(stdout, "\n") != 1+len(sampleRows()) || !strings.HasPrefix(stdout, "NAME ") {
		t.Error(stdout)
	}
	if stderr != "host unknown, nothing is changed: no Host object \n" {
		t.Errorf("%q", stderr)
	}
	var view api.Containers
	if err := json.Unmarshal([]byte(asJSON), &view); err != nil || len(view.Containers) != len(sampleRows()) ||
		view.Host == nil || view.Host.ID != "h" {
		t.Errorf("%s, %v", asJSON, err)
	}
	if want := "{\n  \"executables\": [],\n  \"refused\": []\n}\n"; plugins != want {
		t.Error(plugins)
	}
}

func TestPsWithoutASupervisorShowsTheRecords(t *testing.T) {
	dir := t.TempDir()
	records, err := statedir.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	err = records.Write(&statedir.Record{Phase: statedir.Adding, Container: spec.Container{
		PortID: "p", HostID: "h", InterfaceName: "vpn", ContainerID: "c",
		ServiceType: "IPSEC", GroupID: "g", ConfigurationID: "c",
	}, Executable: statedir.Executable{Version: "1.4.0"}})
	damaged := os.WriteFile(filepath.Join(dir, "state", "containers", "bad.IPSEC"), []byte("{"), 0o600)
	if err := errors.Join(err, damaged); err != nil {
		t.Fatal(err)
	}
	// records holds the lock of the state directory. ps reads the records without the lock.
	stdout, stderr, err := svcSupervisor("ps", "-o", "json", "--run-dir", dir, "--state-dir",
		filepath.Join(dir, "state"))
	if err := errors.Join(err, records.Close()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(stderr, "no supervisor runs") {
		t.Errorf("%q", stderr)
	}
	var view api.Containers
	if err := json.Unmarshal([]byte(stdout), &view); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stdout, `"host"`) {
		t.Errorf("the output has a host, which is unknown without a supervisor: %s", stdout)
	}
	if rows := view.Containers; len(rows) != 2 ||
		rows[0].Name != "bad" || rows[0].Status != "UNKNOWN" || rows[0].Reason == "" ||
		rows[1].Name != "vpn" || rows[1].Status != "HELD" || rows[1].Version != "1.4.0" {
		t.Errorf("%+v", view.Containers)
	}
}

func TestPluginsWithoutASupervisorReadsThePluginPath(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "svc"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := svcSupervisor("plugins", "--run-dir", dir, "--plugin-path", "/nonexistent:"+dir)
	if err != nil || !strings.HasPrefix(stderr, "no supervisor runs") {
		t.Errorf("%q, %v", stderr, err)
	}
	if !strings.Contains(stdout, filepath.Join(dir, "svc")) || !strings.Contains(stdout, "refused") {
		t.Error(stdout)
	}
}

func TestHelpPrintsTheSameAsTheOption(t *testing.T) {
	for command, option := range map[string]string{
		"help": "--help", "help ps": "ps --help", "help config get": "config get --help",
		"help config": "config --help", "config help": "config --help",
	} {
		var got, want bytes.Buffer
		for out, line := range map[*bytes.Buffer]string{&got: command, &want: option} {
			app := newApp()
			app.Writer = out
			if err := app.Run(append([]string{"svc-supervisor"}, strings.Fields(line)...)); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		if got.Len() == 0 || got.String() != want.String() {
			t.Errorf("%s prints\n%s", command, got.String())
		}
	}
	err := newApp().Run([]string{"svc-supervisor", "help", "foo"})
	if err == nil || !strings.Contains(err.Error(), `command "foo": allowed: run, ps`) {
		t.Error(err)
	}
}

func TestInvalidCommandLineIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, r := range []struct {
		name string
		args []string
		want string
	}{
		{"an unknown format", []string{"ps", "-o", "xml"}, `--output "xml": allowed: table, json or yaml`},
		{"an argument of ps", []string{"ps", "vpn"}, `ps argument "vpn"`},
		{"an argument of run", []string{"run", "now"}, `run argument "now"`},
		{"an argument of plugins", []string{"plugins", "x"}, `plugins argument "x"`},
		{
			"an unknown flag", []string{"ps", "--colour"},
			`ps flag "--colour": allowed: --output, --run-dir, --state-dir, --exit-code, --help`,
		},
		{
			"an unknown flag of a subcommand", []string{"host", "set", "-x"},
			`host set flag "-x": allowed: --nsdb, --host-id, --help`,
		},
		{"a flag before the command", []string{"--nsdb", "file:///x", "ps"},
			`flag "--nsdb": allowed: --help, --version`},
		{"a flag without its value", []string{"ps", "--run-dir"}, "ps: flag needs an argument: -run-dir"},
		{
			"a value that is not a number", []string{"run", "--parallel", "many"},
			`run: invalid value "many" for flag -parallel`,
		},
		{"zero containers at once", []string{"run", "--parallel", "0"}, `--parallel "0": allowed: 1 or more`},
		{
			"a negative number of containers at once", []string{"run", "--parallel", "-1"},
			`--parallel "-1": allowed: 1 or more`,
		},
		{
			"an unknown command", []string{"foo"},
			`command "foo": allowed: run, ps, status, doctor, logs, wait, plugins, restart, exec, validate, config,` +
				` host, nsdb`,
		},
		{"a command in capital letters", []string{"PS", "-o", "json"}, `command "PS": allowed: run, ps`},
		{"a relative plugin path", []string{"plugins", "--run-dir", dir, "--plugin-path", "/a:b"}, `--plugin-path "b"`},
		{"an empty plugin path", []string{"plugins", "--run-dir", dir, "--plugin-path", ""}, `--plugin-path ""`},
		{"an interval of 0", []string{"run", "--check-interval", "0s"}, `--check-interval "0s"`},
		{"a negative time", []string{"run", "--verb-timeout", "-1s"}, `--verb-timeout "-1s"`},
		{"an unknown log level", []string{"run", "--log-level", "loud"}, `--log-level "loud": allowed: debug`},
		{
			"an unknown logger", []string{"run", "--log-level", "info,container=debug"},
			`--log-level "container=debug": allowed: debug`,
		},
		{"a hostile host id", []string{"run", "--host-id", "../x"}, `--host-id "../x"`},
		{
			"agent leftovers with an NSDB that is a directory",
			[]string{"run", "--host-id", "h", "--adopt-agent-leftovers"}, "--adopt-agent-leftovers",
		},
		{"no verb", []string{"exec"}, "arguments"},
		{"a verb that exec does not run", []string{"exec", "GC", "vpn"}, `verb "GC"`},
		{"a hostile name", []string{"exec", "ADD", "../x"}, `name "../x"`},
		{"status of no container", []string{"status"}, `status "0 arguments": allowed: one: the name of a container`},
		{"logs of a hostile name", []string{"logs", "../x"}, `logs "../x"`},
		{"an option after the name", []string{"logs", "vpn", "-f"}, `logs "-f": allowed: options before the name`},
		{"a negative number of lines", []string{"logs", "-n", "-1", "vpn"}, `--lines "-1": allowed: 0 or more`},
		{"an unknown condition", []string{"wait", "--for", "good", "vpn"},
			`--for "good": allowed: running, up or gone`},
		{"no time to wait", []string{"wait", "--timeout", "0s", "vpn"}, `--timeout "0s": allowed: a time above 0`},
		{"two directories", []string{"validate", "a", "b"}, "validate argument"},
	} {
		t.Run(r.name, func(t *testing.T) {
			stdout, _, err := svcSupervisor(r.args...)
			if err == nil || !strings.Contains(err.Error(), r.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("want %s, got %v", r.want, err)
			}
			if stdout != "" {
				t.Errorf("stdout is not empty: %q", stdout)
			}
		})
	}
}

func TestNoCommandPrintsTheHelp(t *testing.T) {
	stdout, _, err := svcSupervisor()
	if err != nil || !strings.Contains(stdout, "COMMANDS:") {
		t.Errorf("%v %s", err, stdout)
	}
}

func TestHostIDIsReadAndNeverGenerated(t *testing.T) {
	for _, r := range []struct {
		name    string
		given   string
		file    string // content of the file; "-": the file does not exist; "/": it is a directory
		midonet []string
		want    string // the id, or "error: " and a part of the error
	}{
		{"--host-id comes first", "given", "file", []string{"host_uuid=m"}, "given"},
		{"the file's", "", "file\n", []string{"host_uuid=m"}, "file"},
		{"MidoNet's", "", "-", []string{"#comment\nhost_uuid = m\n", "-"}, "m"},
		{"MidoNet's older file's", "", "-", []string{"-", "host_uuid=old\r\n"}, "old"},
		{"the newer of MidoNet's files decides", "", "-", []string{"host_uuid=new", "host_uuid=old"}, "new"},
		{
			"no id is generated, and the error names all files", "", "-", []string{"-", "-"},
			"error: no host id: give --host-id",
		},
		{"an empty file is an error, not an absent file", "", "", []string{"host_uuid=m"}, "error: allowed"},
		{"a file with an invalid id is an error", "", "a/b", nil, "error: allowed"},
		{
			"a file of MidoNet without the key is an error", "", "-", []string{"x=y", "host_uuid=old"},
			"error: has no host_uuid",
		},
		{"a file of MidoNet with an invalid id is an error", "", "-", []string{"host_uuid=../x"}, "error: host_uuid"},
		{"a directory in the place of the file is an error", "", "/", []string{"host_uuid=m"}, "error: is a directory"},
	} {
		t.Run(r.name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(name, content string) string {
				path := filepath.Join(dir, name)
				var err error
				switch content {
				case "-":
				case "/":
					err = os.Mkdir(path, 0o700)
				default:
					err = os.WriteFile(path, []byte(content), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				return path
			}
			file := put("host-id", r.file)
			var midonet []string
			for i, content := range r.midonet {
				midonet = append(midonet, put("midonet-"+string(rune('a'+i)), content))
			}
			id, err := findHostID(r.given, file, midonet)
			if part, isError := strings.CutPrefix(r.want, "error: "); isError {
				if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") ||
					id != "" {
					t.Errorf("%q, %v", id, err)
				}
				return
			}
			if err != nil || string(id) != r.want {
				t.Errorf("%q, %v", id, err)
			}
		})
	}
}

func TestAgeHasTwoUnits(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "59s": 59*time.Second + 999*time.Millisecond, "1m0s": time.Minute, "59m59s": time.Hour - time.Second,
		"1h0m": time.Hour, "23h59m": 24*time.Hour - time.Second, "1d0h": 24 * time.Hour,
		"400d3h": 400*24*time.Hour + 3*time.Hour,
	} {
		if got := age(before(d), now); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
	if got := age(before(-time.Hour), now); got != "0s" {
		t.Errorf("a time in the future, after the clock was set back: %s", got)
	}
	if got := age(nil, now); got != "-" {
		t.Errorf("never added: %s", got)
	}
}

func TestShellWordQuotesOneArgument(t *testing.T) {
	for word, want := range map[string]string{
		"/opt/svc/bin:/usr/lib_x-1.2=3": "/opt/svc/bin:/usr/lib_x-1.2=3",
		"a b":                           `'a b'`,
		"$(id)":                         `'$(id)'`,
		"it's":                          `'it'\''s'`,
		"a;b":                           `'a;b'`,
		"a\nb":                          "'a\nb'",
		"~root":                         `'~root'`,
		"*":                             `'*'`,
		"":                              `''`,
	} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}

// TestUnreadablePluginPathIsAnError has a directory that root cannot read either, a link to itself. Without the error,
// the list would seem to be complete.
func TestUnreadablePluginPathIsAnError(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "loop")
	if err := os.Symlink(file, file); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := svcSupervisor("plugins", "--run-dir", dir, "--state-dir", dir, "--plugin-path", dir+":"+file)
	if err == nil || !strings.Contains(err.Error(), file) || stdout != "" {
		t.Errorf("%q, %v", stdout, err)
	}
}
