package unit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// changeCounter counts the calls of the function that is passed to Follow, by unit.
type changeCounter struct {
	mu     sync.Mutex
	counts map[string]int
}

func (n *changeCounter) changed(unit string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[unit]++
}

// count returns how often a change of a unit was reported since the last reset.
func (n *changeCounter) count(unit string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts[unit]
}

// reset sets all counts to 0 and returns the former ones.
func (n *changeCounter) reset() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	counts := n.counts
	n.counts = map[string]int{}
	return counts
}

// startFollow calls Follow until the test ends. It returns when Follow has connected.
func startFollow(t *testing.T, bus *Bus) *changeCounter {
	t.Helper()
	n := &changeCounter{counts: map[string]int{}}
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
	n.reset()
	return n
}

// waitQuiet waits until no change of the units is reported for 200 ms. Other tests may use the same systemd at the
// same time.
func (n *changeCounter) waitQuiet(units ...string) {
	for {
		counts := n.reset()
		if !slices.ContainsFunc(units, func(unit string) bool { return counts[unit] > 0 }) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func testFollow(t *testing.T, bus *Bus) {
	ctx := t.Context()
	n := startFollow(t, bus)
	p := program(t, bus, "u_f.o-w", "ready")
	p.Name = "svc-u_f.o-w:r.1_2.service"
	t.Cleanup(func() { must(t, bus.Stop(context.Background(), p.Name)) })
	p.Restart, p.RestartSec = "on-failure", 10*time.Millisecond
	for _, row := range []struct {
		what string
		do   func() error
	}{
		{"a start", func() error { return bus.Start(ctx, p) }},
		{"a crash", func() error { systemctl(t, "kill", "-s", "SEGV", p.Name); return nil }},
		{"a restart", func() error { return bus.Restart(ctx, p.Name) }},
		{"a stop", func() error { return bus.Stop(ctx, p.Name) }},
	} {
		must(t, row.do())
		eventually(t, row.what+" is reported", func() bool { return n.count(p.Name) > 0 })
		n.waitQuiet(p.Name)
	}
}

func TestFollowReportsEachChange(t *testing.T) {
	bus, _ := sandbox(t)
	testFollow(t, bus)
}

func TestFollowReportsEachChangeOverSystemBus(t *testing.T) {
	sandbox(t)
	bus := newBus([]socket{{"/run/dbus/system_bus_socket", true}})
	t.Cleanup(bus.Close)
	testFollow(t, bus)
}

// TestReadingCausesNoChange checks that systemd sends no signal because of a read. The caller reads a unit when Follow
// reports it, so such a signal would cause an endless loop.
func TestReadingCausesNoChange(t *testing.T) {
	bus, ctx := sandbox(t)
	n := startFollow(t, bus)
	p := program(t, bus, "u-look", "ready")
	must(t, bus.Start(ctx, p))
	runTransient(t, bus, "u-not-ours.service", "sleep", "60")
	units := []string{p.Name, "svc-u-none.service"}
	n.waitQuiet(units...)
	for _, name := range units {
		_, err := bus.Show(ctx, name)
		must(t, err)
		_, _, err = bus.Owner(ctx, name)
		must(t, err)
		_, err = bus.List(ctx, name)
		must(t, err)
	}
	time.Sleep(300 * time.Millisecond) // a signal would arrive within this time
	for _, name := range units {
		if n.count(name) > 0 {
			t.Errorf("a change of %s is reported", name)
		}
	}
}

func TestUnitsAndFollowSurviveReexecAndReload(t *testing.T) {
	bus, ctx := sandbox(t)
	n := startFollow(t, bus)
	p := program(t, bus, "u-reexec", "ready")
	must(t, bus.Start(ctx, p))
	pid := show(t, p.Name, "MainPID")
	for range 3 {
		n.waitQuiet("", p.Name)
		systemctl(t, "daemon-reexec")
		units, err := bus.List(ctx, p.Name)
		must(t, err)
		if len(units) != 1 || !units[0].Running() {
			t.Fatalf("list %v", units)
		}
		eventually(t, "everything may have changed", func() bool { return n.count("") > 0 })
		n.waitQuiet("", p.Name)
		systemctl(t, "daemon-reload")
		eventually(t, "everything may have changed", func() bool { return n.count("") > 0 })
		d, err := bus.Show(ctx, p.Name)
		must(t, err)
		if !d.Running() || itoa(d.MainPID) != pid || d.Owner != p.Owner {
			t.Fatalf("show %+v", d)
		}
	}
	n.waitQuiet(p.Name)
	must(t, bus.Stop(ctx, p.Name))
	eventually(t, "the stop is reported", func() bool { return n.count(p.Name) > 0 })
}

// The supervisor can read at any time, and one daemon-reexec may follow another.
func TestReadSurvivesRepeatedReexec(t *testing.T) {
	private, ctx := sandbox(t)
	system := newBus([]socket{{"/run/dbus/system_bus_socket", true}})
	t.Cleanup(system.Close)
	p := program(t, private, "u-reex3", "ready")
	must(t, private.Start(ctx, p))
	for name, bus := range map[string]*Bus{"private socket": private, "system bus": system} {
		t.Run(name, func(t *testing.T) {
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

func TestStartSurvivesReexec(t *testing.T) {
	bus, ctx := sandbox(t)
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

// TestRestartSurvivesReexec has a daemon-reexec at any moment of the call.
func TestRestartSurvivesReexec(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-reex3", "ready")
	must(t, bus.Start(ctx, p))
	for n := range 20 {
		before := show(t, p.Name, "MainPID")
		reexec := make(chan string)
		go func() {
			time.Sleep(time.Duration(n) * 2 * time.Millisecond)
			reexec <- systemctl(t, "daemon-reexec")
		}()
		err := bus.Restart(ctx, p.Name)
		after := show(t, p.Name, "MainPID")
		<-reexec
		must(t, err)
		if after == before {
			t.Errorf("%d ms: process %s was not restarted", 2*n, before)
		}
	}
}
