package libreswan

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeWhack answers with a file and deletes nothing. fakeAddconn loads the conns of its configuration, but refuses
// b-0-0 without a message, and rejects the whole file if it has an unknown line. The real programs behave in the same
// way.
const (
	fakeWhack = `#!/bin/sh
echo "whack $*" >>"$(dirname "$0")/calls"
case "$*" in
*--status*) cat "$(dirname "$0")/status" 2>/dev/null ;;
*"kept-0-0 --delete"*) echo "ERROR: it stays" && exit 22 ;;
*"odd-0-0 --delete"*) echo "EXPECTATION FAILED: revival" && exit 52 ;;
*"lost-0-0 --delete"*) exit 33 ;;
esac
exit 0
`
	fakeAddconn = `#!/bin/sh
dir=$(dirname "$0")
echo "addconn $*" >>"$dir/calls"
shift 2; config=$2; shift 2
if grep -q nonsense= "$config"; then echo "syntax error [nonsense]" >&2; exit 3; fi
for conn; do
	[ "$conn" = b-0-0 ] && code=36 && continue
	echo "\"$conn\":     oriented; my_ip=unset" >>"$dir/status"
	echo "\"$conn\":   our idtype: ID_FQDN; our id=@$conn; their idtype: ID_FQDN; their id=@x" >>"$dir/status"
done
exit ${code:-0}
`
)

func fakeDaemon(t *testing.T) (*Daemon, func() string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"whack": fakeWhack, "addconn": fakeAddconn} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d := &Daemon{Tools: Tools{Whack: filepath.Join(dir, "whack"), Addconn: filepath.Join(dir, "addconn")}, Dir: dir}
	return d, func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return string(text)
	}
}

func specsOf(texts map[string]string) []Spec {
	var specs []Spec
	for _, name := range []string{"a-0-0", "b-0-0", "c-0-0"} {
		if text, ok := texts[name]; ok {
			specs = append(specs, Spec{Name: name, Text: []byte(text), Matches: func(c Conn) string {
				if c.OurID != "@"+name {
					return "another id"
				}
				return ""
			}})
		}
	}
	return specs
}

func TestRefusedConnDoesNotAffectOthers(t *testing.T) {
	for _, test := range []struct {
		name    string
		conns   map[string]string
		refused map[string]string
	}{
		{"all good", map[string]string{"a-0-0": "conn\n", "c-0-0": "conn\n"}, map[string]string{}},
		{"one refused without a message", map[string]string{"a-0-0": "conn\n", "b-0-0": "conn\n", "c-0-0": "conn\n"},
			map[string]string{"b-0-0": "pluto refused it"}},
		{"one that makes the file invalid", map[string]string{"a-0-0": "conn\n", "c-0-0": "nonsense=1\n"},
			map[string]string{"c-0-0": "syntax error [nonsense]"}},
	} {
		d, calls := fakeDaemon(t)
		refused, answer, err := d.Loader().Load(context.Background(), specsOf(test.conns))
		if err != nil {
			t.Fatal(err)
		}
		if _, loaded := answer.Conns["a-0-0"]; !loaded && len(test.refused) == 0 {
			t.Errorf("%s: the answer has no conn: %+v", test.name, answer)
		}
		for conn := range test.conns {
			if !strings.Contains(refused[conn], test.refused[conn]) ||
				(refused[conn] == "") != (test.refused[conn] == "") {
				t.Errorf("%s: %s: got %q, want %q\n%s", test.name, conn, refused[conn], test.refused[conn], calls())
			}
		}
		if _, err := os.Stat(d.Files().staging()); err == nil {
			t.Errorf("%s: the staging file is left", test.name)
		}
	}
}

// The cause may be a full disk, a limit of processes or the kernel's OOM killer, so the next ADD may succeed.
func TestKilledAddconnRefusesNoConn(t *testing.T) {
	for name, breakAddconn := range map[string]func(d *Daemon) error{
		"killed": func(d *Daemon) error {
			return os.WriteFile(d.Tools.Addconn, []byte("#!/bin/sh\nkill -KILL $$\n"), 0o700)
		},
		"not started": func(d *Daemon) error { return os.Remove(d.Tools.Addconn) },
		"without input": func(d *Daemon) error {
			return os.MkdirAll(filepath.Join(d.Dir, ".new-load.conf", "in-the-way"), 0o700)
		},
	} {
		d, _ := fakeDaemon(t)
		if err := breakAddconn(d); err != nil {
			t.Fatal(err)
		}
		specs := specsOf(map[string]string{"a-0-0": "conn\n"})
		refused, _, err := d.Loader().Load(t.Context(), specs)
		if err == nil || len(refused) != 0 || !strings.Contains(err.Error(), "load conns: ") {
			t.Errorf("%s: refused %v, %v", name, refused, err)
		}
		if refused, err := d.Loader().Refusals(t.Context(), nil, specs, time.Now()); err == nil || len(refused) != 0 {
			t.Errorf("%s, alone: refused %v, %v", name, refused, err)
		}
	}
}

func TestConnThatCrashesAddconnIsRefused(t *testing.T) {
	d, _ := fakeDaemon(t)
	if err := os.WriteFile(d.Tools.Addconn, []byte("#!/bin/sh\nkill -SEGV $$\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	refused, _, err := d.Loader().Load(t.Context(), specsOf(map[string]string{"a-0-0": "conn\n"}))
	if err != nil || !strings.Contains(refused["a-0-0"], "segmentation fault") {
		t.Errorf("refused %v, %v", refused, err)
	}
}

func TestMismatchedConnIsDeleted(t *testing.T) {
	d, calls := fakeDaemon(t)
	specs := specsOf(map[string]string{"a-0-0": "conn\n"})
	specs[0].Matches = func(c Conn) string { return "it is " + c.OurID }
	refused, _, err := d.Loader().Load(context.Background(), specs)
	if err != nil || refused["a-0-0"] != "it is @a-0-0" || !strings.Contains(calls(), "--name a-0-0 --delete") {
		t.Errorf("refused %v, %v\n%s", refused, err, calls())
	}
}

func TestUnresponsiveDaemonIsErrorInTime(t *testing.T) {
	d, _ := fakeDaemon(t)
	if err := os.WriteFile(d.Tools.Whack, []byte("#!/bin/sh\nsleep 60 &\nsleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := d.Control().Status(ctx); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestUnorientedConnIsAwaited(t *testing.T) {
	d, _ := fakeDaemon(t)
	status := filepath.Join(filepath.Dir(d.Tools.Whack), "status")
	writeStatus := func(text string) {
		if err := os.WriteFile(status+".new", []byte(text), 0o600); err != nil {
			t.Error(err)
		}
		if err := os.Rename(status+".new", status); err != nil {
			t.Error(err)
		}
	}
	writeStatus("\"a-0-0\":     unoriented; my_ip=unset\n")
	listens := time.AfterFunc(200*time.Millisecond, func() { writeStatus("\"a-0-0\":     oriented; my_ip=unset\n") })
	defer listens.Stop()
	_, missing, err := d.Loader().AwaitLoaded(context.Background(), specsOf(map[string]string{"a-0-0": "conn\n"}))
	if err != nil || len(missing) != 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
	writeStatus("\"a-0-0\":     unoriented; my_ip=unset\n")
	_, missing, err = d.Loader().AwaitLoaded(context.Background(), specsOf(map[string]string{"a-0-0": "conn\n"}))
	if err != nil || len(missing) != 1 {
		t.Errorf("address that no interface has: missing %v, %v", missing, err)
	}
}

func TestDeletedConnIsNoErrorWhateverWasLogged(t *testing.T) {
	d, _ := fakeDaemon(t)
	status := []byte("\"kept-0-0\":     oriented; my_ip=unset\n")
	if err := os.WriteFile(filepath.Join(d.Dir, "status"), status, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Control().Delete(t.Context(), "odd-0-0", "b-0-0"); err != nil {
		t.Error(err)
	}
	err := d.Control().Delete(t.Context(), "odd-0-0", "kept-0-0")
	if err == nil || !strings.Contains(err.Error(), "kept-0-0") || !strings.Contains(err.Error(), "it stays") {
		t.Errorf("error %v", err)
	}
	if err := d.Control().Delete(t.Context(), "lost-0-0", "odd-0-0"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("error %v", err)
	}
}
