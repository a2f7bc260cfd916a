package unit

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStartWaitsUntilReadyAndStopWaitsUntilGone(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-ready", "ready")
	must(t, bus.Start(ctx, p))
	if got := show(t, p.Name, "ActiveState,SubState"); got != "active\nrunning" {
		t.Errorf("state %q", got)
	}
	if got := show(t, p.Name, "Slice"); got != "svc-test.slice" {
		t.Errorf("slice %q", got)
	}
	must(t, bus.Stop(ctx, p.Name))
	isUnloaded(t, p.Name)
	must(t, bus.Stop(ctx, p.Name))
}

func TestNameIsFreeWhenStopReturns(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-again", "ready")
	for range 50 {
		must(t, bus.Start(ctx, p))
		must(t, bus.Stop(ctx, p.Name))
	}
}

func TestRunningUnitIsNotStartedAgain(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-twice", "ready")
	must(t, bus.Start(ctx, p))
	pid := show(t, p.Name, "MainPID")
	if err := bus.Start(ctx, p); !errors.Is(err, ErrExists) {
		t.Errorf("second start: %v", err)
	}
	if got := show(t, p.Name, "MainPID"); got != pid {
		t.Errorf("main process %s, want %s", got, pid)
	}
}

func TestStartReplacesFailedUnit(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-failed", "exit", "3")
	p.Type = Exec
	must(t, bus.Start(ctx, p))
	eventually(t, "the unit failed", func() bool { return show(t, p.Name, "ActiveState") == "failed" })
	p.ExecStart = daemonCommand(t, "silent")
	must(t, bus.Start(ctx, p))
	if got := show(t, p.Name, "ActiveState"); got != "active" {
		t.Errorf("state %q", got)
	}
}

func TestFailedStartReportsReasonAndLeavesNothing(t *testing.T) {
	bus, ctx := sandbox(t)
	for _, row := range []struct {
		name   string
		change func(*Transient)
		want   StartError
		text   string
	}{
		{"an exit status",
			func(p *Transient) { p.ExecStart = daemonCommand(t, "exit", "4") },
			StartError{Job: "failed", Exit: Exit{Result: "exit-code", Code: 1, Status: 4}},
			"job failed: exit-code: status 4"},
		{"a signal",
			func(p *Transient) { p.ExecStart = daemonCommand(t, "kill-self") },
			StartError{Job: "failed", Exit: Exit{Result: "signal", Code: 2, Status: 9}},
			"job failed: signal: SIGKILL"},
		{"exit status 0 before it was ready",
			func(p *Transient) { p.ExecStart = daemonCommand(t, "exit", "0") },
			StartError{Job: "failed", Exit: Exit{Result: "protocol", Code: 1}},
			"job failed: protocol: the program ended before it was ready"},
		{"never ready",
			func(p *Transient) {
				p.ExecStart, p.TimeoutStart = daemonCommand(t, "silent"), 300*time.Millisecond
			},
			StartError{Job: "failed", Exit: Exit{Result: "timeout", Code: 2, Status: 15}},
			"job failed: timeout: SIGTERM"},
		{"a program that does not exist",
			func(p *Transient) { p.ExecStart = Command{"/nowhere/pluto"} },
			StartError{Job: "failed", Exit: Exit{Result: "exit-code", Code: 1, Status: 203}},
			"job failed: exit-code: status 203 (EXEC)"},
		{"a program that does not exist, with type exec",
			func(p *Transient) { p.ExecStart, p.Type = Command{"/nowhere/pluto"}, Exec },
			StartError{Job: "failed", Exit: Exit{Result: "exit-code", Code: 1, Status: 203}},
			"job failed: exit-code: status 203 (EXEC)"},
		{"a namespace that does not exist",
			func(p *Transient) { p.NetworkNamespacePath = "/run/netns/nowhere" },
			StartError{Job: "failed", Exit: Exit{Result: "exit-code", Code: 1, Status: 225}},
			"job failed: exit-code: status 225 (NETWORK)"},
		{"a failed ExecStartPre command",
			func(p *Transient) { p.ExecStartPre = []Command{{"/bin/true"}, {"/bin/sh", "-c", "exit 7"}} },
			StartError{Job: "failed", Exit: Exit{Result: "exit-code", Program: "sh", Code: 1, Status: 7}},
			"job failed: exit-code: sh: status 7"},
	} {
		for _, restart := range []string{"", "on-failure", "always"} {
			t.Run(row.name+", restart "+restart, func(t *testing.T) {
				p := program(t, bus, "u-bad", "ready")
				p.Restart, p.RestartSec = restart, 50*time.Millisecond
				row.change(&p)
				row.want.Unit = p.Name
				err := bus.Start(ctx, p)
				var failed *StartError
				if !errors.As(err, &failed) {
					t.Fatalf("error %v", err)
				}
				if *failed != row.want {
					t.Errorf("error %+v, want %+v", *failed, row.want)
				}
				if got, want := err.Error(), "start svc-u-bad.service: "+row.text; got != want {
					t.Errorf("text %q, want %q", got, want)
				}
				isUnloaded(t, p.Name)
			})
		}
	}
}

func TestCanceledStartLeavesNothing(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-slow", "silent")
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err := bus.Start(short, p)
	if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	isUnloaded(t, p.Name)
}

func TestInvalidUnitIsNotStarted(t *testing.T) {
	bus, ctx := sandbox(t)
	for name, change := range map[string]func(*Transient){
		"a property of a wrong type":     func(p *Transient) { p.Properties = []Property{{"MemoryMax", "1G"}} },
		"an unknown property":            func(p *Transient) { p.Properties = []Property{{"NoSuch", true}} },
		"a relative path of the program": func(p *Transient) { p.ExecStart = Command{"pluto"} },
		"no program":                     func(p *Transient) { p.ExecStart = nil },
		"another container's unit":       func(p *Transient) { p.Name = "svc-other.service" },
		"a variable in an argument":      func(p *Transient) { p.ExecStart = Command{"/bin/echo", "$HOME"} },
		"a separator in an argument":     func(p *Transient) { p.ExecStart = Command{"/bin/echo", ";", "x"} },
		"invalid UTF-8 in an argument":   func(p *Transient) { p.ExecStart = Command{"/bin/echo", "\xff"} },
		"no owner":                       func(p *Transient) { p.Owner.Name = "" },
	} {
		t.Run(name, func(t *testing.T) {
			p := program(t, bus, "u-refused", "ready")
			change(&p)
			err := bus.Start(ctx, p)
			if err == nil || errors.As(err, new(*StartError)) || !strings.HasPrefix(err.Error(), "start "+p.Name+": ") {
				t.Errorf("error %v", err)
			}
			isUnloaded(t, p.Name)
		})
	}
}

func TestArgumentsReachProgramUnchanged(t *testing.T) {
	bus, ctx := sandbox(t)
	args := []string{
		"", " ", "a b", "%n", "%%", "\\x41", `"q"`, "'", "`", "line\nline", "\t", "ünï", "-", "#", "{}&|<>()*?~!",
	}
	p := program(t, bus, "u-args")
	p.Type = Exec
	written := tempFile(t, "args")
	p.ExecStart = append(daemonCommand(t, "write-args", written), args...)
	read := func() string {
		var got []byte
		eventually(t, "the arguments are written", func() bool {
			var err error
			got, err = os.ReadFile(written)
			return err == nil
		})
		must(t, os.Remove(written))
		return string(got)
	}
	must(t, bus.Start(ctx, p))
	if got, want := read(), strings.Join(args, "\x00"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// At a daemon-reload systemd reads the unit from the file that it wrote for it.
	systemctl(t, "daemon-reload")
	must(t, bus.Restart(ctx, p.Name))
	if got, want := read(), strings.Join(args, "\x00"); got != want {
		t.Errorf("after a reload got %q, want %q", got, want)
	}
}

func TestUnitHasRequestedProperties(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-props")
	// Do not run the test binary: it may be below /tmp, and this unit has a private /tmp.
	p.Type, p.ExecStart = Exec, Command{"/bin/sleep", "60"}
	p.Description = "a description"
	p.Restart, p.RestartSec = "on-failure", 2*time.Second
	p.WatchdogSec, p.TimeoutStart, p.TimeoutStop = 30*time.Second, 40*time.Second, 50*time.Second
	p.ExecStopPost = []Command{{"/bin/true", "post"}}
	p.Environment = []string{"A=b c", `D=$E;%n"\'`}
	p.LogExtraFields = []string{"SVC_CONTAINER=u-props", "SVC_TYPE=100%n"}
	p.CapabilityBoundingSet = []int{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}
	p.BindPaths = []Bind{{Source: "/run", Destination: "/mnt"}}
	p.BindReadOnlyPaths = []Bind{{Source: "/etc/hostname"}}
	p.TemporaryFileSystem = []string{"/opt"}
	p.ProtectSystem, p.ProtectHome, p.PrivateTmp, p.NoNewPrivileges = "full", "read-only", true, true
	p.Properties = []Property{{"MemoryMax", uint64(1 << 30)}, {"OOMScoreAdjust", int32(-100)}}
	must(t, bus.Start(ctx, p))
	want := map[string]string{
		"Description":            "a description",
		"Type":                   "exec",
		"Restart":                "on-failure",
		"RestartUSec":            "2s",
		"WatchdogUSec":           "30s",
		"TimeoutStartUSec":       "40s",
		"TimeoutStopUSec":        "50s",
		"StartLimitIntervalUSec": "14min 12s", // six starts that hang
		"StartLimitBurst":        "5",
		"Environment":            `SVC_OWNER=svc-supervisor:u-props:id-u-props "A=b c" "D=\$E;%n\"\\'"`,
		"LogExtraFields":         "SVC_CONTAINER=u-props SVC_TYPE=100%n",
		"CapabilityBoundingSet":  "cap_net_admin cap_net_raw",
		"BindPaths":              "/run:/mnt:rbind",
		"BindReadOnlyPaths":      "/etc/hostname:/etc/hostname:rbind",
		"TemporaryFileSystem":    "/opt",
		"ProtectSystem":          "full",
		"ProtectHome":            "read-only",
		"PrivateTmp":             "yes",
		"NoNewPrivileges":        "yes",
		"CPUAccounting":          "yes",
		"MemoryAccounting":       "yes",
		"TasksAccounting":        "yes",
		"MemoryMax":              "1073741824",
		"OOMScoreAdjust":         "-100",
	}
	compare := func(when string) {
		for property, want := range want {
			if got := show(t, p.Name, property); got != want {
				t.Errorf("%s %s is %q, want %q", when, property, got, want)
			}
		}
	}
	compare("at first")
	// At a daemon-reload systemd reads the unit from the file that it wrote for it.
	systemctl(t, "daemon-reload")
	compare("after a reload")
}

func TestStartLeavesCountersOfAUnitThatIsRestarted(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-loop")
	p.Type, p.ExecStart = Exec, Command{"/usr/bin/timeout", "0.1", "sleep", "60"}
	p.Restart, p.RestartSec = "on-failure", 100*time.Millisecond
	must(t, bus.Start(ctx, p))
	eventually(t, "two restarts", func() bool {
		d, err := bus.Show(ctx, p.Name)
		return err == nil && d.Restarts >= 2
	})
	if err := bus.Start(ctx, p); !errors.Is(err, ErrExists) {
		t.Errorf("start: %v", err)
	}
	if d, err := bus.Show(ctx, p.Name); err != nil || d.Restarts < 2 {
		t.Errorf("%d restarts, %v", d.Restarts, err)
	}
}
