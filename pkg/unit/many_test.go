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
	bus, ctx := ground(t)
	n := follow(t, bus)
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
		eventually(t, name+" is told", func() bool { return n.count(name) > 0 })
	}
}

// TestOneNameFromManySides: whoever is first, each call ends and says what it found.
func TestOneNameFromManySides(t *testing.T) {
	bus, ctx := ground(t)
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
				// Between the end of its job and the look the unit may be started again: that is told, too.
				if err := bus.Stop(ctx, p.Name); err != nil && !strings.Contains(err.Error(), "yet it is") {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
}

func TestNothingLeaksFromABus(t *testing.T) {
	bus, ctx := ground(t)
	p := program(t, bus, "u-leak", "ready")
	round := func() {
		bus := Open()
		defer bus.Close()
		following, cancel := context.WithCancel(ctx)
		told := make(chan struct{}, 1)
		ended := make(chan error)
		go func() {
			ended <- bus.Follow(following, func(string) {
				select {
				case told <- struct{}{}:
				default:
				}
			})
		}()
		<-told
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
	// A connection's own goroutines end a moment after it.
	eventually(t, fmt.Sprintf("back to %d goroutines, %d descriptors", goroutines, descriptors), func() bool {
		return runtime.NumGoroutine() <= goroutines && countDescriptors(t) <= descriptors
	})
}

func TestNothingLeaksFromCallsThatAreNotAnswered(t *testing.T) {
	for what, serve := range silences {
		bus := fakeSystemd(t, serve)
		goroutines := runtime.NumGoroutine()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if _, err := bus.List(ctx, "svc-*"); err == nil && !strings.Contains(what, "first answer") {
				t.Errorf("%s: listed", what)
			}
			cancel()
		}
		bus.Close()
		eventually(t, "the calls' goroutines end: "+what, func() bool { return runtime.NumGoroutine() <= goroutines })
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestFollowEndsWithItsContextAndWithItsBus(t *testing.T) {
	for what, serve := range silences {
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
					t.Error("no reason")
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %s", took)
				}
			})
		}
	}
}

// TestAnyUserMayLookAndNotTouch runs again as a user without rights, over the system bus.
func TestAnyUserMayLookAndNotTouch(t *testing.T) {
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
			t.Error("stopped")
		} else {
			t.Log(err)
		}
		return
	}
	bus, ctx := ground(t)
	p := program(t, bus, "u-look2", "ready")
	must(t, bus.Start(ctx, p))
	again := exec.Command("/proc/self/exe", "-test.run=^TestAnyUserMayLookAndNotTouch$", "-test.v")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v: %s", err, out)
	}
	if got := show(t, p.Name, "ActiveState"); got != "active" {
		t.Errorf("state %q", got)
	}
}
