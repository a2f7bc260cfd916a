package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func TestHealing(t *testing.T) {
	rows := []struct {
		sentence string
		damage   func(*world)
	}{
		{"a unit that was stopped", func(w *world) { w.systemd("svc-vpn1.service", "") }},
		{"a unit that systemd no longer restarts", func(w *world) { w.systemd("svc-vpn1.service", "failed") }},
		{"a unit that ended without an error", func(w *world) { w.systemd("svc-vpn1.service", "inactive") }},
		{
			"a namespace that is gone",
			func(w *world) { w.change(func() { delete(w.namespaces, "vpn1") }); w.current.r.Mark("vpn1") },
		},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				row.damage(w)
				w.untilSettled(3 * time.Second)
				if got, want := w.verbs("vpn1"), "ADD DEL ADD"; got != want {
					t.Errorf("%q ran, want %q", got, want)
				}
				if got, want := w.history("c1"), "STARTING, RUNNING, STARTING, RUNNING"; got != want {
					t.Errorf("%q was published, want %q", got, want)
				}
			})
		})
	}
}

func TestReasonNamesTheBrokenResource(t *testing.T) {
	const unitName = "svc-vpn1.service"
	failed := func(exit unit.Exit) func(*world) {
		return func(w *world) {
			w.change(func() { w.exit = exit })
			w.systemd(unitName, "failed")
		}
	}
	noSuch := &spec.Error{Code: spec.CodeUnknownContainer, Msg: "the daemon does not answer", Details: "timeout"}
	rows := []struct {
		sentence string
		damage   func(*world)
		want     string
	}{
		{"a unit that was stopped", func(w *world) { w.systemd(unitName, "") }, "svc-vpn1.service is gone"},
		{"a unit whose watchdog expired", failed(unit.Exit{Result: "watchdog"}), "svc-vpn1.service failed: watchdog"},
		{
			"a unit that ended with an error",
			failed(unit.Exit{Result: "exit-code", Code: 1, Status: 3}),
			"svc-vpn1.service failed: exit-code: status 3",
		},
		{"a failed unit without an exit reason", failed(unit.Exit{Result: "success"}), "svc-vpn1.service failed"},
		{
			"a namespace that is gone",
			func(w *world) { w.change(func() { delete(w.namespaces, "vpn1") }) },
			"namespace vpn1 is gone",
		},
		{
			"a namespace that was replaced by a foreign one",
			func(w *world) { w.change(func() { w.namespaces["vpn1"] = tagged{} }) },
			"namespace vpn1 is not ours",
		},
		{
			"CHECK",
			func(w *world) { w.on(spec.Check, "vpn1", behaviour{fails: noSuch}) },
			"CHECK failed twice: the daemon does not answer: timeout (code 3)",
		},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.on(spec.Del, "vpn1", behaviour{takes: time.Second})
				row.damage(w)
				w.current.r.Mark("vpn1")
				w.until(2*time.Minute, "it is removed", func() bool { return strings.Contains(w.verbs("vpn1"), "DEL") })
				if line := w.logged[len(w.logged)-1]; !strings.HasSuffix(line, " rule=5 reason="+row.want) {
					t.Errorf("logged %q", line)
				}
				if row.sentence == "a namespace that was replaced by a foreign one" {
					w.change(func() { w.namespaces = map[spec.Name]tagged{}; w.links = map[spec.Name]tagged{} })
					return // the reason that ps shows is replaced, because the name is taken now
				}
				w.until(
					3*time.Second,
					"ps shows it",
					func() bool { return w.heldReason("vpn1") == row.want+"; ADD follows after a delay" },
				)
				w.untilSettled(5 * time.Second)
				w.unbind("p1")
				w.untilSettled(5 * time.Second)
				if line := w.logged[len(w.logged)-1]; !strings.HasSuffix(line, " rule=3") {
					t.Errorf("logged %q", line)
				}
			})
		})
	}
}

// leaveUnit adds a unit of vpn1 that has our owner tag and no record, and that stays when it is stopped.
func (w *world) leaveUnit() {
	const name = "svc-vpn1.service"
	w.unitsStay = true
	w.units[name] = &process{
		unit:  unit.Unit{Name: name, ActiveState: "active"},
		owner: spec.Owner{Network: spec.Network, Name: "vpn1", ContainerID: "c1"},
	}
}

func TestReasonNamesTheRemainingLeftover(t *testing.T) {
	inWorld(t, func(w *world) {
		w.leaveUnit()
		w.start()
		w.bind(vpn("p1", "vpn1", "c1"))
		want := "remove the leftover failed, will be retried: " +
			"remove the leftover was taken 3 times without effect: svc-vpn1.service is still there"
		w.until(5*time.Second, "ps shows it", func() bool { return w.heldReason("vpn1") == want })
		w.change(func() { w.unitsStay = false })
		w.untilSettled(time.Minute)
	})
}

func TestReconfigureThatAsksForTheNextAtOnceIsDelayed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{prints: answer(&spec.Health{Code: spec.Running, Again: &spec.Again{}})})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		want := "reconfigure failed, will be retried: " +
			"reconfigure was taken 3 times without effect: the executable asks for it at once"
		w.until(5*time.Second, "ps shows it", func() bool {
			rows := w.current.r.Rows()
			return len(rows) == 1 && rows[0].Reason == want
		})
	})
}

func TestContainerIsNotHealedDuringShutdown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.change(func() { w.down = true })
		w.systemd("svc-vpn1.service", "")
		w.after(5 * time.Minute)
		if got, published := w.verbs("vpn1"), w.history("c1"); strings.Contains(got, "DEL") ||
			published != "STARTING, RUNNING" {
			t.Errorf("%q ran, and %q was published", got, published)
		}
		w.change(func() { w.down = false })
		w.untilSettled(2 * time.Minute)
		w.change(func() { w.down = true })
		w.systemd("svc-vpn1.service", "")
		w.unbind("p1")
		w.untilSettled(3 * time.Second) // a container that is not wanted is removed even during a shutdown
	})
}

func TestStartingUnitIsLeftToSystemd(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Check, "vpn1", behaviour{fails: code(spec.CodeUnknownContainer)})
		w.systemd("svc-vpn1.service", "activating")
		w.after(5 * time.Minute)
		w.on(spec.Check, "vpn1")
		w.systemd("svc-vpn1.service", "active")
		w.after(5 * time.Minute)
		if got := w.verbs("vpn1"); strings.Contains(got, "DEL") {
			t.Errorf("%q ran", got)
		}
	})
}

func TestOnlyTwoErrorsOfCHECKInARowLeadToDEL(t *testing.T) {
	failed := behaviour{fails: code(spec.CodeUnknownContainer)}
	rows := []struct {
		sentence string
		script   []behaviour
		heals    bool
	}{
		{"one error", []behaviour{failed, {}}, false},
		{"two errors", []behaviour{failed, failed, {}}, true},
		{"an error, a success, an error", []behaviour{failed, {}, failed, {}}, false},
		{"invalid output every time", []behaviour{{prints: "oops"}}, false},
		{"health with an unknown code every time", []behaviour{{prints: `{"code":"EXPLODED"}`}}, false},
		{"an error, invalid output, an error", []behaviour{failed, {prints: "oops"}, failed, {}}, true},
		{"code 11 every time", []behaviour{{fails: code(spec.CodeAgain)}}, false},
		{"a deadline every time", []behaviour{{hangs: true}}, false},
		{"an error, a deadline, an error", []behaviour{failed, {hangs: true}, failed, {}}, true},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.on(spec.Check, "vpn1", row.script...)
				w.start()
				w.after(10 * time.Minute)
				if got := strings.Contains(w.verbs("vpn1"), "DEL"); got != row.heals {
					t.Errorf("DEL %v, want %v: %s", got, row.heals, w.verbs("vpn1"))
				}
				w.untilSettled(0)
			})
		})
	}
}

func TestSecondCHECKFollowsSoonAfterAnError(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(spec.Check, "vpn1", behaviour{fails: code(spec.CodeUnknownContainer)}, behaviour{})
		w.start()
		w.after(80 * time.Second)
		if times := w.times(spec.Check, "vpn1"); len(times) != 2 || times[1].Sub(times[0]) > 7*time.Second {
			t.Errorf("CHECK at %v", times)
		}
	})
}

func TestCHECKsAreSpread(t *testing.T) {
	inWorld(t, func(w *world) {
		seen := map[time.Duration]bool{}
		w.start()
		begin := time.Now()
		for i := range 20 {
			name := spec.Name(fmt.Sprint("vpn", i))
			w.bind(vpn(spec.PortID(name), name, spec.ContainerID(name)))
		}
		w.after(2 * time.Minute)
		for i := range 20 {
			times := w.times(spec.Check, spec.Name(fmt.Sprint("vpn", i)))
			if len(times) == 0 {
				t.Fatal("no CHECK in two minutes")
			}
			seen[times[0].Sub(begin).Round(100*time.Millisecond)] = true
		}
		if len(seen) < 10 {
			t.Errorf("20 CHECKs at %d different times", len(seen))
		}
	})
}
