package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func TestFirstEntryWithPrintableTextIsReturned(t *testing.T) {
	const journal = `{"MESSAGE":[1,2]}
{"MESSAGE":" \t "}
{"MESSAGE":null}
{"MESSAGE":"cannot\nopen\u001b[1m x "}
{"MESSAGE":"before"}
`
	for journal, want := range map[string]string{journal: "cannot open [1m x", "no JSON\n": "", "": ""} {
		if got := firstEntry([]byte(journal), func(e entry) bool { return e.text() != "" }).text(); got != want {
			t.Errorf("%q: %q", journal, got)
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
	for range 2 * runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = busy.Process.Kill(), busy.Wait() }()
	}
	for n := range 10 {
		lastLineOfARestartedUnit(t, bus, fmt.Sprintf("svc-lastline%d.service", n))
	}
}

func lastLineOfARestartedUnit(t *testing.T, bus *unit.Bus, name string) {
	t.Helper()
	// The second process logs more lines than LastLine reads.
	const script = `[ -e "/run/$0" ] || { touch "/run/$0"; echo the cause; exit 3; }` + "\n" +
		`for i in $(seq 200); do echo "line $i"; done; exec sleep 1000`
	out, err := exec.Command("systemd-run", "--quiet", "--unit="+name,
		"--property=Restart=on-failure", "--property=RestartSec=50ms", "sh", "-c", script, name).CombinedOutput()
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
	if got := (hostUnits{bus}).LastLine(t.Context(), name); got != "the cause" {
		t.Errorf("%s: %q", name, got)
	}
}
