package push

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

var told = Container{InterfaceName: "vpn1", Connections: []Connection{
	{ID: "a", Name: "to-paris", Peer: "200.200.200.2", Pairs: []Pair{{"a-0-0", "10.1.0.0/24", "10.2.0.0/24"}, {"a-0-1", "10.1.0.0/24", "10.3.0.0/24"}}},
	{ID: "b", Pairs: []Pair{{"b-0-0", "10.1.0.0/24", "10.4.0.0/24"}}},
}}

// folder makes a container's folder and runs the script as the daemon does, a program that writes down its arguments in the
// place of this one.
func folder(t *testing.T) (path string, daemon func(words ...string) string) {
	t.Helper()
	path = t.TempDir()
	if err := os.MkdirAll(Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	calls := filepath.Join(path, "calls")
	program := filepath.Join(path, "program")
	write(t, program, "#!/bin/sh\necho \"$@\" >>"+calls+"\n", 0o755)
	script := strings.ReplaceAll(string(ScriptFor(path)), Program, program)
	write(t, filepath.Join(path, Script), script, 0o600)
	return path, func(words ...string) string {
		t.Helper()
		_ = os.Remove(calls)
		// As in programs/pluto/show.c: one line for a shell.
		cmd := exec.Command("/bin/sh", "-c", Shell+" "+strings.Join(words, " "))
		cmd.Dir = filepath.Join(path, "run")
		if out, err := cmd.CombinedOutput(); err != nil && len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
		said, _ := os.ReadFile(calls)
		return strings.TrimSpace(strings.ReplaceAll(string(said), path, "FOLDER"))
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func line(conn, tunnel string) string {
	name := "ipsec-tunnel-" + conn
	return `push ` + name + ` if_stats /proc/net/dev/ \; push ` + name + ` tunnel ` + tunnel + ` \; push ` + name + ` phase1 up \; push ` + name + ` phase2 down`
}

func TestOnlyNewsOfATunnelIsWorthAProgram(t *testing.T) {
	_, daemon := folder(t)
	for _, step := range []struct{ conn, tunnel, ran string }{
		// What cannot come up is told once, and again when the daemons had agreed on something in between.
		{"a-0-0", "phase1", ""}, {"a-0-0", "down", "push FOLDER a-0-0"}, {"a-0-0", "phase1", ""}, {"a-0-0", "down", ""},
		{"a-0-0", "phase1", ""}, {"a-0-0", "phase1up", ""}, {"a-0-0", "phase2", ""}, {"a-0-0", "phase1up", ""}, {"a-0-0", "down", "push FOLDER a-0-0"},
		{"a-0-0", "up", "push FOLDER a-0-0"}, {"a-0-0", "up", ""},
		{"b-0-0", "phase2", ""}, {"b-0-0", "up", "push FOLDER b-0-0"},
		{"a-0-0", "phase1up", "push FOLDER a-0-0"}, {"a-0-0", "phase1", ""}, {"a-0-0", "down", ""},
		{"a-0-0", "up", "push FOLDER a-0-0"},
	} {
		if ran := daemon(line(step.conn, step.tunnel)); ran != step.ran {
			t.Errorf("%s %s: %q ran, want %q", step.conn, step.tunnel, ran, step.ran)
		}
	}
	if ran := daemon("push"); ran != "push FOLDER a-0-0 b-0-0" {
		t.Errorf("at the end of the daemon %q ran", ran)
	}
	if ran := daemon("push"); ran != "" {
		t.Errorf("with all of them down %q ran", ran)
	}
}

func TestTheFirstOfTwentyChangesIsToldLikeTheLast(t *testing.T) {
	_, daemon := folder(t)
	for i := range 20 {
		state := map[bool]string{true: "up", false: "phase1"}[i%2 == 0]
		if ran := daemon(line("a-0-0", state)); ran == "" {
			t.Errorf("change %d is not told", i)
		}
	}
}

func TestAConnectionIsActiveIfAllOfItsPairsAreUp(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, test := range []struct {
		states string
		conns  []string
		status []string
		again  bool
	}{
		{"a-0-0:up a-0-1:up b-0-0:up", []string{"a-0-1"}, []string{"a ACTIVE ACTIVE ACTIVE"}, false},
		{"a-0-0:up", []string{"a-0-0"}, []string{"a DOWN ACTIVE DOWN"}, false}, // the second was never up
		{"a-0-0:up a-0-1:down", []string{"a-0-1"}, []string{"a DOWN ACTIVE DOWN"}, true},
		{"a-0-0:up a-0-1:up b-0-0:down", []string{"a-0-1"}, []string{"a ACTIVE ACTIVE ACTIVE"}, true},
		{"a-0-0:down b-0-0:down", []string{"a-0-0", "b-0-0"}, []string{"a DOWN DOWN DOWN", "b DOWN DOWN"}, true},
		{"", []string{"gone-0-0"}, nil, false},
	} {
		state := func(conn string) string {
			_, rest, _ := strings.Cut(test.states, conn+":")
			is, _, _ := strings.Cut(rest, " ")
			return is
		}
		h := told.health(test.conns, state, now)
		var status []string
		for _, c := range h.Connections {
			line := c.ID + " " + string(c.Status)
			for _, p := range c.Pairs {
				line += " " + string(p.Status)
			}
			status = append(status, line)
			if c.Since == nil || !c.Since.Equal(now.Truncate(time.Second)) {
				t.Errorf("since %v", c.Since)
			}
		}
		if !reflect.DeepEqual(status, test.status) || (h.Again != nil) != test.again || h.Check() != nil {
			t.Errorf("%v of %q: %v, again %v, %v", test.conns, test.states, status, h.Again, h.Check())
		}
	}
}

func TestAnObjectThatIsTooLongIsSentInParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := &spec.Health{InterfaceName: "vpn1", Code: spec.Running}
	for range 4 {
		h.Connections = append(h.Connections, spec.Connection{ID: strings.Repeat("x", 50_000), Status: spec.Down})
	}
	if err := tell(path, h); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, spec.HealthLimit+1)
	for range 4 {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		one := new(spec.Health)
		if err := json.Unmarshal(buffer[:n], one); err != nil || len(one.Connections) != 1 {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestNobodyWaitsWhereNobodyListens(t *testing.T) {
	begin := time.Now()
	path := filepath.Join(t.TempDir(), "socket")
	if send(path, []byte("{}")) == nil {
		t.Error("sent to nobody")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	full := false
	for range 100_000 {
		if send(path, []byte("{}")) != nil {
			full = true
			break
		}
	}
	if !full || time.Since(begin) > 20*time.Second {
		t.Errorf("full %v after %v", full, time.Since(begin))
	}
}
