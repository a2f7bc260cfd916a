package unit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestManyUnitsAtOnce(t *testing.T) {
	bus, ctx := sandbox(t)
	n := startFollow(t, bus)
	var workers sync.WaitGroup
	for i := range 20 {
		p := program(t, bus, fmt.Sprintf("u-many%d", i), "ready")
		bad := p
		bad.ExecStart = daemonCommand(t, "exit", "4")
		workers.Go(func() {
			for range 3 {
				if err := bus.Start(ctx, bad); !errors.As(err, new(*StartError)) {
					t.Error(err)
				}
				if err := errors.Join(bus.Start(ctx, p), bus.Stop(ctx, p.Name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	for i := range 20 {
		name := fmt.Sprintf("svc-u-many%d.service", i)
		isUnloaded(t, name)
		eventually(t, name+" is reported", func() bool { return n.count(name) > 0 })
	}
}

// TestConcurrentStartsAndStopsOfOneUnit checks that every call returns, with one of the documented errors if it failed.
func TestConcurrentStartsAndStopsOfOneUnit(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-sides", "ready")
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for range 10 {
				var failed *StartError
				if err := bus.Start(ctx, p); err != nil && !errors.Is(err, ErrExists) && !errors.As(err, &failed) {
					t.Error(err)
				}
			}
		})
		workers.Go(func() {
			for range 10 {
				// Another call may start the unit after the stop job ended and before Stop reads the state.
				if err := bus.Stop(ctx, p.Name); err != nil && !strings.Contains(err.Error(), "but the unit is") {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
}

func TestBusLeaksNothing(t *testing.T) {
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-leak", "ready")
	round := func() {
		bus := Open()
		defer bus.Close()
		following, cancel := context.WithCancel(ctx)
		reported := make(chan struct{}, 1)
		ended := make(chan error)
		go func() {
			ended <- bus.Follow(following, func(string) {
				select {
				case reported <- struct{}{}:
				default:
				}
			})
		}()
		<-reported
		must(t, errors.Join(bus.Start(ctx, p), bus.Stop(ctx, p.Name)))
		_, err := bus.Show(ctx, p.Name)
		must(t, err)
		cancel()
		<-ended
	}
	round()
	goroutines, descriptors := runtime.NumGoroutine(), countDescriptors(t)
	for range 50 {
		round()
	}
	// The goroutines of a connection end shortly after it is closed.
	eventually(t, fmt.Sprintf("back to %d goroutines, %d descriptors", goroutines, descriptors), func() bool {
		return runtime.NumGoroutine() <= goroutines && countDescriptors(t) <= descriptors
	})
}

func TestUnansweredCallsLeakNothing(t *testing.T) {
	for what, serve := range unresponsiveServers {
		bus := fakeSystemd(t, serve)
		goroutines := runtime.NumGoroutine()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if _, err := bus.List(ctx, "svc-*"); err == nil && !strings.Contains(what, "first answer") {
				t.Errorf("%s: List succeeded", what)
			}
			cancel()
		}
		bus.Close()
		eventually(t, "the goroutines of the calls end: "+what,
			func() bool { return runtime.NumGoroutine() <= goroutines })
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestFollowEndsWithContextOrBus(t *testing.T) {
	for what, serve := range unresponsiveServers {
		for _, end := range []string{"context", "bus"} {
			t.Run(what+", "+end, func(t *testing.T) {
				t.Parallel()
				bus := fakeSystemd(t, serve)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan error, 1)
				go func() { ended <- bus.Follow(ctx, func(string) {}) }()
				time.Sleep(50 * time.Millisecond)
				start := time.Now()
				if end == "context" {
					cancel()
				} else {
					bus.Close()
				}
				if err := <-ended; err == nil {
					t.Error("Follow returned no error")
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %s", took)
				}
			})
		}
	}
}

// TestUnprivilegedUserCanOnlyRead runs itself again as an unprivileged user, who uses the system bus.
func TestUnprivilegedUserCanOnlyRead(t *testing.T) {
	const name = "svc-u-look2.service"
	if os.Geteuid() != 0 && os.Getenv("SVC_TEST_GROUND") == "1" {
		bus := Open()
		defer bus.Close()
		ctx := t.Context()
		d, err := bus.Show(ctx, name)
		must(t, err)
		if !d.Running() || d.MainPID == 0 || d.Owner.Name != "u-look2" {
			t.Errorf("show %+v", d)
		}
		units, err := bus.List(ctx, "svc-u-look2*")
		must(t, err)
		if len(units) != 1 || !units[0].Running() {
			t.Errorf("list %v", units)
		}
		if err := bus.Stop(ctx, name); err == nil {
			t.Error("Stop succeeded")
		} else {
			t.Log(err)
		}
		return
	}
	bus, ctx := sandbox(t)
	p := program(t, bus, "u-look2", "ready")
	must(t, bus.Start(ctx, p))
	again := exec.Command("/proc/self/exe", "-test.run=^TestUnprivilegedUserCanOnlyRead$", "-test.v")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v: %s", err, out)
	}
	if got := show(t, p.Name, "ActiveState"); got != "active" {
		t.Errorf("state %q", got)
	}
}
