package unit

import (
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestUnitHasExactlyOneState(t *testing.T) {
	for _, row := range []struct {
		unit Unit
		want string
	}{
		{Unit{}, "gone"},
		{Unit{LoadState: "not-found", ActiveState: "inactive", SubState: "dead"}, "gone"},
		{Unit{LoadState: "loaded", ActiveState: "inactive", SubState: "dead"}, "gone"},
		{Unit{ActiveState: "inactive", SubState: "dead", JobQueued: true}, "transitional"},
		{Unit{ActiveState: "activating", SubState: "start"}, "transitional"},
		{Unit{ActiveState: "activating", SubState: "auto-restart"}, "transitional"},
		{Unit{ActiveState: "activating", SubState: "start", JobQueued: true}, "transitional"},
		{Unit{ActiveState: "deactivating", SubState: "stop-sigterm"}, "transitional"},
		{Unit{ActiveState: "reloading", SubState: "reload"}, "transitional"},
		{Unit{ActiveState: "maintenance"}, "transitional"},
		{Unit{ActiveState: "active", SubState: "running"}, "running"},
		{Unit{ActiveState: "active", SubState: "running", JobQueued: true}, "transitional"},
		{Unit{ActiveState: "failed", SubState: "failed"}, "failed for good"},
		{Unit{ActiveState: "failed", SubState: "failed", JobQueued: true}, "transitional"},
	} {
		is := map[string]bool{
			"gone":            row.unit.Gone(),
			"transitional":    row.unit.Transitional(),
			"running":         row.unit.Running(),
			"failed for good": row.unit.FailedForGood(),
		}
		for state, holds := range is {
			if holds != (state == row.want) {
				t.Errorf("%s: %s is %t, want state %s", row.unit.State(), state, holds, row.want)
			}
		}
	}
}

func TestListShowAndOwner(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-list", "ready")
	before := time.Now().Add(-time.Second)
	must(t, bus.Start(ctx, p))
	units, err := bus.List(ctx, "svc-u-list*.service", "svc-u-none*.service")
	must(t, err)
	want := Unit{Name: p.Name, LoadState: "loaded", ActiveState: "active", SubState: "running"}
	if len(units) != 1 || units[0] != want {
		t.Errorf("list %v", units)
	}
	d, err := bus.Show(ctx, p.Name)
	must(t, err)
	if d.Unit != want || d.Owner != p.Owner || d.Restarts != 0 || show(t, p.Name, "MainPID") != itoa(d.MainPID) {
		t.Errorf("show %+v", d)
	}
	if d.ActiveSince.Before(before) || d.ActiveSince.After(time.Now()) {
		t.Errorf("active since %s", d.ActiveSince)
	}
	owner, ok, err := bus.Owner(ctx, p.Name)
	must(t, err)
	if !ok || owner != p.Owner {
		t.Errorf("owner %v, %t", owner, ok)
	}
}

func TestUnknownUnitIsGone(t *testing.T) {
	bus, ctx := sandbox(t)
	units, err := bus.List(ctx, "svc-u-none.service")
	must(t, err)
	if len(units) != 0 {
		t.Errorf("list %v", units)
	}
	d, err := bus.Show(ctx, "svc-u-none.service")
	must(t, err)
	if !d.Gone() || d.Exit != (Exit{}) || d.Name != "svc-u-none.service" {
		t.Errorf("show %+v", d)
	}
	owner, ok, err := bus.Owner(ctx, "svc-u-none.service")
	must(t, err)
	if ok || owner != (spec.Owner{}) {
		t.Errorf("owner %v", owner)
	}
}

func TestSystemIsNotShuttingDown(t *testing.T) {
	bus, ctx := sandbox(t)
	down, err := bus.ShuttingDown(ctx)
	must(t, err)
	if down {
		t.Error("reported as shutting down")
	}
}

func TestUnitWithoutTagHasNoOwner(t *testing.T) {
	bus, ctx := sandbox(t)
	runTransient(t, bus, "svc-u-other.service", "sleep", "60")
	owner, ok, err := bus.Owner(ctx, "svc-u-other.service")
	must(t, err)
	if ok {
		t.Errorf("owner %v", owner)
	}
}

func TestUnitWithoutRestartsLeftHasFailedForGood(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-limit", "exit", "3")
	p.Type, p.Restart, p.RestartSec = Exec, "on-failure", 10*time.Millisecond
	must(t, bus.Start(ctx, p))
	var d Details
	eventually(t, "the unit failed for good", func() bool {
		var err error
		d, err = bus.Show(ctx, p.Name)
		must(t, err)
		if d.Gone() {
			t.Fatalf("the unit is gone: %s", d.State())
		}
		return d.FailedForGood()
	})
	if want := (Exit{Result: "exit-code", Code: 1, Status: 3}); d.Exit != want || d.Restarts != startLimitBurst {
		t.Errorf("exit %v, %d restarts", d.Exit, d.Restarts)
	}
	must(t, bus.Stop(ctx, p.Name))
	isUnloaded(t, p.Name)
}

func TestStartLimitIntervalAllowsForHangingStarts(t *testing.T) {
	for _, test := range []struct {
		start, stop, pause, want time.Duration
	}{
		{0, 0, 0, 27 * time.Minute},
		{2 * time.Second, time.Second, time.Second, time.Minute},
		{15 * time.Second, 10 * time.Second, time.Second, 216 * time.Second},
	} {
		p := &Transient{TimeoutStart: test.start, TimeoutStop: test.stop, RestartSec: test.pause}
		if got := p.limitInterval(); got != test.want {
			t.Errorf("start %v, stop %v, pause %v: %v, want %v", test.start, test.stop, test.pause, got, test.want)
		}
	}
}

func TestRestart(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-restart", "ready")
	must(t, bus.Start(ctx, p))
	pid := show(t, p.Name, "MainPID")
	must(t, bus.Restart(ctx, p.Name))
	if now := show(t, p.Name, "MainPID"); now == pid {
		t.Errorf("process %s was not restarted", pid)
	}
	must(t, bus.Stop(ctx, p.Name))
	if err := bus.Restart(ctx, p.Name); err == nil {
		t.Error("restarted a unit that is gone")
	}
}
