package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/journal"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func TestLastTextIsThatOfTheFirstPrintableEntry(t *testing.T) {
	for want, messages := range map[string][]journal.Text{
		"cannot open [1m x": {"\x01\x02", " \t ", "", "cannot\nopen\x1b[1m x ", "before"},
		"":                  nil,
	} {
		var entries []*journal.Entry
		for _, message := range messages {
			entries = append(entries, &journal.Entry{Message: message})
		}
		if got := lastText(entries); got != want {
			t.Errorf("%q: %q", messages, got)
		}
	}
}

// TestLastLineIsThatOfTheProcessThatEnded repeats the case beside busy processes. There journald reads the last line of
// a process often after the process has ended.
func TestLastLineIsThatOfTheProcessThatEnded(t *testing.T) {
	if os.Getenv("SVC_TEST_GROUND") == "" {
		t.Skip("needs systemd: make unit")
	}
	bus := unit.Open()
	defer bus.Close()
	lastLineOfARestartedUnit(t, bus, "svc-lastline.service", "1", "the cause")
	lastLineOfARestartedUnit(t, bus, "svc-lastlinesilent.service", "2", "") // the second process logs nothing
	for range 2 * runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = busy.Process.Kill(), busy.Wait() }()
	}
	for n := range 10 {
		lastLineOfARestartedUnit(t, bus, fmt.Sprintf("svc-lastline%d.service", n), "1", "the cause")
	}
}

// lastLineOfARestartedUnit runs a unit of which this number of processes fail, and compares LastLine with want.
func lastLineOfARestartedUnit(t *testing.T, bus *unit.Bus, name, failures, want string) {
	t.Helper()
	// The first process logs the cause, the others that fail log nothing. The one that stays logs more lines than
	// LastLine reads.
	const script = `runs=$(cat "/run/$0" 2>/dev/null); echo "$((runs + 1))" >"/run/$0"
[ "${runs:-0}" != 0 ] || echo the cause
[ "${runs:-0}" -ge "$1" ] || exit 3
for i in $(seq 200); do echo "line $i"; done; exec sleep 1000`
	out, err := exec.Command("systemd-run", "--quiet", "--unit="+name,
		"--property=Restart=on-failure", "--property=RestartSec=50ms",
		"sh", "-c", script, name, failures).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer func() {
		_ = exec.Command("systemctl", "stop", name).Run()
		_ = os.Remove("/run/" + name)
	}()
	read := func() string {
		out, _ := exec.Command("journalctl", "--quiet", "--output=cat", "_SYSTEMD_UNIT="+name).Output()
		return string(out)
	}
	for began := time.Now(); !strings.Contains(read(), "line 200\n"); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("no second process: %s", read())
		}
	}
	if got := (hostUnits{bus}).LastLine(t.Context(), name); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}
