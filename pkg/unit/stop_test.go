package unit

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// runTransient starts a unit without an owner tag, as another program would.
func runTransient(t *testing.T, bus *Bus, unit string, command ...string) {
	t.Helper()
	t.Cleanup(func() { systemctl(t, "stop", unit); systemctl(t, "reset-failed", unit) })
	out, err := exec.Command(
		"systemd-run", append([]string{"--quiet", "--unit=" + unit}, command...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-run: %v: %s", err, out)
	}
}

func TestStopWaitsForProgramThatIgnoresSIGTERM(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-sigterm", "ignore-sigterm")
	p.TimeoutStop = 300 * time.Millisecond
	must(t, bus.Start(ctx, p))
	start := time.Now()
	must(t, bus.Stop(ctx, p.Name))
	if took := time.Since(start); took < p.TimeoutStop {
		t.Errorf("took %s", took)
	}
	isUnloaded(t, p.Name)
}

func TestStopEndsEndlessRestart(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-loop", "exit", "3")
	p.Type, p.Restart, p.RestartSec = Exec, "always", time.Hour
	must(t, bus.Start(ctx, p))
	eventually(t, "the unit waits for its restart", func() bool {
		return show(t, p.Name, "SubState") == "auto-restart"
	})
	must(t, bus.Stop(ctx, p.Name))
	isUnloaded(t, p.Name)
}

// TestMaskedUnitIsNotStarted checks Start and Stop with a masked name. A mask has no effect on a transient unit that
// runs, because its file precedes /etc in systemd's unit path. So nothing runs with a name that was masked before the
// start, and Stop has nothing to do.
func TestMaskedUnitIsNotStarted(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-masked", "ready")
	systemctl(t, "mask", p.Name)
	t.Cleanup(func() { systemctl(t, "unmask", p.Name) })
	err := bus.Start(ctx, p)
	if err == nil || !strings.Contains(err.Error(), "masked") || strings.Contains(err.Error(), "\n") {
		t.Errorf("start: %v", err)
	}
	must(t, bus.Stop(ctx, p.Name))
	systemctl(t, "unmask", p.Name)
	must(t, bus.Start(ctx, p))
	systemctl(t, "mask", p.Name)
	if units, err := bus.List(ctx, p.Name); err != nil || len(units) != 1 || !units[0].Running() {
		t.Errorf("list %v, %v", units, err)
	}
	must(t, bus.Stop(ctx, p.Name))
	isUnloaded(t, p.Name)
}
