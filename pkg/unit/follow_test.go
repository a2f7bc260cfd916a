package unit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// news collects what Follow tells.
type news struct {
	mu   sync.Mutex
	told map[string]int
}

func (n *news) changed(unit string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told[unit]++
}

// count says how often a unit was told since the last forget.
func (n *news) count(unit string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told[unit]
}

func (n *news) forget() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	told := n.told
	n.told = map[string]int{}
	return told
}

// follow follows for the length of a test, from when the connection stands.
func follow(t *testing.T, bus *Bus) *news {
	t.Helper()
	n := &news{told: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- bus.Follow(ctx, n.changed) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("follow: %v", err)
		}
	})
	eventually(t, "everything may have changed", func() bool { return n.count("") > 0 })
	n.forget()
	return n
}

// quiet waits until nothing more is told of the units, whatever other tests do on the same ground.
func (n *news) quiet(units ...string) {
	for told := n.forget(); slices.ContainsFunc(units, func(unit string) bool { return told[unit] > 0 }); told = n.forget() {
		time.Sleep(200 * time.Millisecond)
	}
}

func testFollow(t *testing.T, bus *Bus) {
	ctx := t.Context()
	n := follow(t, bus)
	p := program(t, bus, "u_f.o-w", "ready")
	p.Name = "svc-u_f.o-w:r.1_2.service"
	t.Cleanup(func() { must(t, bus.Stop(context.Background(), p.Name)) })
	p.Restart, p.RestartSec = "on-failure", 10*time.Millisecond
	for _, row := range []struct {
		what string
		do   func() error
	}{
		{"a start", func() error { return bus.Start(ctx, p) }},
		{"a death", func() error { systemctl(t, "kill", "-s", "SEGV", p.Name); return nil }},
		{"a restart", func() error { return bus.Restart(ctx, p.Name) }},
		{"a stop", func() error { return bus.Stop(ctx, p.Name) }},
	} {
		must(t, row.do())
		eventually(t, row.what+" is told", func() bool { return n.count(p.Name) > 0 })
		n.quiet(p.Name)
	}
}

func TestFollowTellsEachChange(t *testing.T) {
	bus, _ := ground(t)
	testFollow(t, bus)
}

func TestFollowTellsEachChangeOverTheSystemBus(t *testing.T) {
	ground(t)
	bus := newBus([]socket{{"/run/dbus/system_bus_socket", true}})
	t.Cleanup(bus.Close)
	testFollow(t, bus)
}

// TestLookingIsNotTold: a look that systemd signals as a change would be looked at for ever.
func TestLookingIsNotTold(t *testing.T) {
	bus, ctx := ground(t)
	n := follow(t, bus)
	p := program(t, bus, "u-look", "ready")
	must(t, bus.Start(ctx, p))
	runTransient(t, bus, "u-not-ours.service", "sleep", "60")
	looked := []string{p.Name, "svc-u-none.service"}
	n.quiet(looked...)
	for _, name := range looked {
		_, err := bus.Show(ctx, name)
		must(t, err)
		_, _, err = bus.Owner(ctx, name)
		must(t, err)
		_, err = bus.List(ctx, name)
		must(t, err)
	}
	time.Sleep(300 * time.Millisecond) // the proof of an absence
	for _, name := range looked {
		if n.count(name) > 0 {
			t.Errorf("%s is told", name)
		}
	}
}

func TestUnitsAndFollowSurviveReexecAndReload(t *testing.T) {
	bus, ctx := ground(t)
	n := follow(t, bus)
	p := program(t, bus, "u-reexec", "ready")
	must(t, bus.Start(ctx, p))
	pid := show(t, p.Name, "MainPID")
	for range 3 {
		n.quiet("", p.Name)
		systemctl(t, "daemon-reexec")
		units, err := bus.List(ctx, p.Name)
		must(t, err)
		if len(units) != 1 || !units[0].Running() {
			t.Fatalf("list %v", units)
		}
		eventually(t, "everything may have changed", func() bool { return n.count("") > 0 })
		n.quiet("", p.Name)
		systemctl(t, "daemon-reload")
		eventually(t, "everything may have changed", func() bool { return n.count("") > 0 })
		d, err := bus.Show(ctx, p.Name)
		must(t, err)
		if !d.Running() || itoa(d.MainPID) != pid || d.Owner != p.Owner {
			t.Fatalf("show %+v", d)
		}
	}
	n.quiet(p.Name)
	must(t, bus.Stop(ctx, p.Name))
	eventually(t, "the stop is told", func() bool { return n.count(p.Name) > 0 })
}

// A supervisor asks at any moment, and one daemon-reexec may follow another.
func TestNoReadFailsUnderReexecsInARow(t *testing.T) {
	usual, ctx := ground(t)
	daemon := newBus([]socket{{"/run/dbus/system_bus_socket", true}})
	t.Cleanup(daemon.Close)
	p := program(t, usual, "u-reex3", "ready")
	must(t, usual.Start(ctx, p))
	for way, bus := range map[string]*Bus{"whichever way is open": usual, "over the system bus": daemon} {
		t.Run(way, func(t *testing.T) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range 8 {
					systemctl(t, "daemon-reexec")
				}
			}()
			defer func() { <-done }()
			for reads := 0; ; reads++ {
				select {
				case <-done:
					t.Logf("%d reads", reads)
					return
				default:
				}
				units, err := bus.List(ctx, p.Name)
				must(t, err)
				if len(units) != 1 || !units[0].Running() {
					t.Fatalf("list %v", units)
				}
			}
		})
	}
}

func TestAStartSurvivesReexec(t *testing.T) {
	bus, ctx := ground(t)
	p := program(t, bus, "u-reex2", "slow")
	reexec := make(chan string)
	go func() {
		eventually(t, "it starts", func() bool { return show(t, p.Name, "SubState") == "start" })
		reexec <- systemctl(t, "daemon-reexec")
	}()
	err := bus.Start(ctx, p)
	<-reexec
	must(t, err)
	if got := show(t, p.Name, "SubState"); got != "running" {
		t.Errorf("state %q", got)
	}
	p.ExecStart = daemonCommand(t, "silent")
	must(t, bus.Stop(ctx, p.Name))
	p.TimeoutStart = 2 * time.Second
	go func() {
		eventually(t, "it starts", func() bool { return show(t, p.Name, "SubState") == "start" })
		reexec <- systemctl(t, "daemon-reexec")
	}()
	err = bus.Start(ctx, p)
	<-reexec
	var failed *StartError
	if !errors.As(err, &failed) {
		t.Errorf("error %v", err)
	}
	t.Log(err)
	isUnloaded(t, p.Name)
}
