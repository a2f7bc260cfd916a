package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// kernelEvents implements KernelEvents for an instance.
type kernelEvents struct{ *instance }

func (l kernelEvents) Subscribe(
	name spec.Name, path string, events spec.Events, changed func(),
) (fresh bool, err error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.events != nil {
		return false, l.w.faults.events
	}
	if want := (namespaces{}).Path(name); path != want || l.w.namespaceLocked(name).State != netns.Ours {
		l.w.violationLocked("subscribed to the namespace of %s at %s", name, path)
	}
	fresh = l.subscriptions[name] == nil
	if fresh {
		l.subscriptions[name] = changed
	}
	return fresh, nil
}

func (l kernelEvents) LostAt() time.Time {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.eventsLost
}

func (l kernelEvents) Unsubscribe(name spec.Name) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	delete(l.subscriptions, name)
}

// offerXFRM makes an executable ask for CHECK after XFRM events.
func (w *world) offerXFRM(path string) {
	w.change(func() {
		for i := range w.programs {
			if w.programs[i].Path == path {
				w.programs[i].CheckOn.XFRM = true
			}
		}
	})
	w.rescan()
}

// offerAll makes an executable ask for CHECK after every kind of event.
func (w *world) offerAll(path string) {
	w.change(func() {
		for i := range w.programs {
			if w.programs[i].Path == path {
				w.programs[i].CheckOn = spec.Events{XFRM: true, Network: true}
			}
		}
	})
	w.rescan()
}

// event causes an XFRM event in the namespace of a container. It reports whether the supervisor is subscribed to it.
func (w *world) event(name spec.Name) bool {
	w.mu.Lock()
	changed := w.current.subscriptions[name]
	w.mu.Unlock()
	if changed == nil {
		return false
	}
	changed()
	return true
}

// stream causes an event every 100 ms.
func (w *world) stream(name spec.Name, d time.Duration) {
	for begin := time.Now(); time.Since(begin) < d; w.after(100 * time.Millisecond) {
		w.event(name)
	}
}

func hourly(s *Settings) { s.CheckInterval = time.Hour }

// runsXFRM starts a supervisor with one container whose executable asks for CHECK after XFRM events. It returns after
// the CHECK that the events of ADD can cause.
func runsXFRM(w *world, change ...func(*Settings)) {
	w.offerXFRM("/opt/svc/bin/svc-ipsec")
	w.bind(vpn("p1", "vpn1", "c1"))
	w.start(change...)
	w.untilSettled(time.Second)
	w.after(2 * time.Second)
}

func TestEventLeadsToCHECK(t *testing.T) {
	rows := []struct {
		sentence string
		offers   bool
		do       func(*world)
		want     int
	}{
		{"no event, no CHECK", true, func(*world) {}, 0},
		{"one event, one CHECK", true, func(w *world) { w.event("vpn1") }, 1},
		{"a burst after CHECK leads to one more CHECK", true, func(w *world) {
			w.event("vpn1")
			w.after(150 * time.Millisecond) // CHECK has ended, and the next one may not start yet
			for range 100 {
				w.event("vpn1")
			}
		}, 2},
		{"an event during CHECK leads to another one", true, func(w *world) {
			w.event("vpn1")
			w.after(50 * time.Millisecond)
			w.event("vpn1")
		}, 2},
		{"an event during ADD leads to CHECK", true, func(w *world) {
			w.on(spec.Add, "vpn1", behaviour{takes: 5 * time.Second})
			w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
			w.after(2 * time.Second)
			w.event("vpn1")
		}, 1},
		{"an event while systemd does not answer leads to CHECK", true, func(w *world) {
			w.change(func() { w.faults.systemd = errors.New("silent") })
			w.event("vpn1")
		}, 1},
		{"no subscription without checkOn", false, func(w *world) {
			if w.event("vpn1") {
				w.t.Error("a subscription exists")
			}
		}, 0},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				if row.offers {
					w.offerXFRM("/opt/svc/bin/svc-ipsec")
				}
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start(hourly)
				w.untilSettled(time.Second)
				w.after(2 * time.Second)
				row.do(w)
				w.after(10 * time.Second)
				if got := len(w.times(spec.Check, "vpn1")); got != row.want {
					t.Errorf("%d CHECKs, want %d", got, row.want)
				}
			})
		})
	}
}

func TestHealthOfCHECKAfterAnEventIsPublished(t *testing.T) {
	inWorld(t, func(w *world) {
		runsXFRM(w, hourly)
		w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(healthOf(spec.Active, spec.Down))))})
		w.event("vpn1")
		w.after(time.Second)
		w.expectStatuses("after an event", "a:ACTIVE b:DOWN")
	})
}

func TestCHECKsForAStreamOfEventsAreLimited(t *testing.T) {
	inWorld(t, func(w *world) {
		runsXFRM(w, hourly)
		begin := time.Now()
		w.stream("vpn1", 10*time.Minute)
		times := w.times(spec.Check, "vpn1")
		within := func(from, to time.Duration) (count int) {
			for _, at := range times {
				if d := at.Sub(begin); from <= d && d < to {
					count++
				}
			}
			return count
		}
		for i := range times[1:] {
			if gap := times[i+1].Sub(times[i]); gap < eventGap {
				t.Fatalf("two CHECKs within %v", gap)
			}
		}
		if count := within(0, time.Minute); count < 50 || count > 60 {
			t.Errorf("%d CHECKs in the first minute", count)
		}
		if count := within(2*time.Minute, 10*time.Minute); count < 46 || count > 50 {
			t.Errorf("%d CHECKs in 8 minutes after that", count)
		}
		w.after(20 * time.Minute)
		begin = time.Now()
		w.event("vpn1")
		w.after(time.Second)
		if times = w.times(spec.Check, "vpn1"); within(0, time.Second) != 1 {
			t.Error("no CHECK at once after the stream")
		}
	})
}

func TestErrorsOfCloselySpacedCHECKsCountOnce(t *testing.T) {
	failed := behaviour{fails: code(spec.CodeUnknownContainer)}
	rows := []struct {
		sentence string
		lasts    time.Duration
		heals    bool
	}{
		{"a fault that disappears before the regular second CHECK is ignored", 5 * time.Second, false},
		{"a fault that lasts until the regular second CHECK leads to DEL", 8 * time.Second, true},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				runsXFRM(w)
				w.on(spec.Check, "vpn1", failed)
				w.stream("vpn1", row.lasts)
				w.on(spec.Check, "vpn1", behaviour{})
				w.stream("vpn1", 10*time.Second)
				if heals := strings.Contains(w.verbs("vpn1"), "DEL"); heals != row.heals {
					t.Errorf("DEL %v, want %v: CHECK at %v", heals, row.heals, w.times(spec.Check, "vpn1"))
				}
				w.untilSettled(5 * time.Second)
			})
		})
	}
}

func TestSubscriptionLastsWhileTheContainerRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		subscribed := func(name spec.Name) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.current.subscriptions[name] != nil
		}
		runsXFRM(w, hourly)
		if !subscribed("vpn1") {
			t.Error("no subscription after ADD")
		}
		w.current.kill()
		w.start(hourly)
		w.after(time.Second)
		if !subscribed("vpn1") {
			t.Error("no subscription after adoption")
		}
		if len(w.times(spec.Check, "vpn1")) != 0 {
			t.Error("CHECK of an adopted container ran at once")
		}
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.untilSettled(time.Second)
		if !subscribed("vpn1") {
			t.Error("no subscription after a reconfigure")
		}
		w.systemd("svc-vpn1.service", "")
		w.untilSettled(5 * time.Second)
		if !subscribed("vpn1") {
			t.Error("no subscription after healing")
		}
		w.uninstall("/opt/svc/bin/svc-ipsec")
		w.after(time.Second)
		if !subscribed("vpn1") {
			t.Error("no subscription while the executable is missing")
		}
		w.install("/opt/svc/bin/svc-ipsec", ipsec, "1.0.1", true)
		w.after(time.Second)
		if subscribed("vpn1") {
			t.Error("the subscription remains although the executable does not ask for it any more")
		}
		w.offerXFRM("/opt/svc/bin/svc-ipsec")
		w.after(time.Second)
		if !subscribed("vpn1") {
			t.Error("no subscription although the executable asks for it again")
		}
		w.unbind("p1")
		w.untilSettled(5 * time.Second)
		if subscribed("vpn1") {
			t.Error("the subscription remains after DEL")
		}
	})
}

// TestSubscriptionEndsBeforeTheNamespaceIsRemoved relies on the fake Namespaces.Remove, which reports a violation if a
// subscription still exists.
func TestSubscriptionEndsBeforeTheNamespaceIsRemoved(t *testing.T) {
	rows := []struct {
		sentence string
		do       func(*world)
	}{
		{"unbound", func(w *world) { w.unbind("p1") }},
		{"another container under the name", func(w *world) { w.unbind("p1"); w.bind(vpn("p1", "vpn1", "c2")) }},
		{"CHECK fails twice", func(w *world) {
			w.on(spec.Check, "vpn1", behaviour{fails: code(spec.CodeUnknownContainer)})
			w.event("vpn1")
			w.after(10 * time.Second)
			w.on(spec.Check, "vpn1")
		}},
		{"ADD fails", func(w *world) {
			w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeOwn)}, behaviour{})
			w.systemd("svc-vpn1.service", "")
		}},
		{
			"its record is lost",
			func(w *world) { w.change(func() { delete(w.disk, "vpn1") }); w.current.r.Mark("vpn1") },
		},
		{"all containers are stopped", func(w *world) { w.current.r.Drain() }},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				runsXFRM(w)
				row.do(w)
				w.after(time.Minute)
				removed := func(effect string) bool { return effect == "remove namespace vpn1" }
				if !slices.ContainsFunc(w.trace, removed) {
					t.Error("the namespace was not removed")
				}
			})
		})
	}
}

func TestFailedSubscriptionIsRetriedAndCHECKRunsAtItsInterval(t *testing.T) {
	inWorld(t, func(w *world) {
		w.change(func() { w.faults.events = errors.New("no such protocol") })
		runsXFRM(w)
		w.after(5 * time.Minute)
		if count := len(w.times(spec.Check, "vpn1")); count < 4 {
			t.Errorf("%d CHECKs", count)
		}
		w.change(func() { w.faults.events = nil })
		w.until(3*time.Minute, "a subscription exists", func() bool { return w.event("vpn1") })
	})
}

func TestAThousandContainersHaveSubscriptions(t *testing.T) {
	inWorld(t, func(w *world) {
		w.offerXFRM("/opt/svc/bin/svc-ipsec")
		for i := range 1000 {
			name := spec.Name(fmt.Sprint("vpn", i))
			w.bind(vpn(spec.PortID(name), name, spec.ContainerID(name)))
		}
		w.start(hourly)
		w.untilSettled(10 * time.Minute)
		w.after(2 * time.Second)
		for i := range 1000 {
			if name := spec.Name(fmt.Sprint("vpn", i)); !w.event(name) {
				t.Fatalf("no subscription for %s", name)
			}
		}
		w.after(time.Minute)
		for i := range 1000 {
			if name := spec.Name(fmt.Sprint("vpn", i)); len(w.times(spec.Check, name)) != 1 {
				t.Fatalf("CHECK of %s ran at %v", name, w.times(spec.Check, name))
			}
		}
	})
}

func TestOneCHECKFollowsADDWithEventsAndADownConnection(t *testing.T) {
	inWorld(t, func(w *world) {
		w.offerXFRM("/opt/svc/bin/svc-ipsec")
		w.on(spec.Add, "vpn1", behaviour{takes: time.Second,
			prints: `{"cniVersion":"1.1.0","units":["svc-vpn1.service"],"health":{"code":"RUNNING","connections":[` +
				`{"id":"a","name":"a","status":"DOWN"}]}}`})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start(hourly)
		w.after(500 * time.Millisecond)
		if !w.event("vpn1") {
			t.Fatal("no subscription")
		}
		w.after(1500 * time.Millisecond)
		if got := len(w.times(spec.Check, "vpn1")); got != 0 {
			t.Errorf("%d CHECKs a second after ADD", got)
		}
		w.after(2 * time.Second)
		if got := len(w.times(spec.Check, "vpn1")); got != 1 {
			t.Errorf("%d CHECKs three seconds after ADD", got)
		}
	})
}
