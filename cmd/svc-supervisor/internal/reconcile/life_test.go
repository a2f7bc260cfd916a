package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

func TestAdoptionChangesNothing(t *testing.T) {
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			inWorld(t, func(w *world) {
				for i := range 20 {
					port, name := spec.PortID(fmt.Sprint("p", i)), spec.Name(fmt.Sprint("vpn", i))
					w.bind(vpn(port, name, spec.ContainerID(fmt.Sprint("c", i))))
				}
				w.start()
				w.untilSettled(2 * time.Second)
				if how == "stopped" {
					w.current.stop()
				} else {
					w.current.kill()
				}
				w.forgetCalls()
				w.change(func() { clear(w.published) }) // as the end of a lease does
				effects, begin := w.effects(), time.Now()
				w.start()
				w.untilSettled(0) // RUNNING must be published at once
				w.after(10 * time.Second)
				if len(w.verbCalls()) != 0 || w.effects() != effects {
					t.Errorf("in the first ten seconds: calls %v, effects %q", w.verbCalls(), w.trace[effects:])
				}
				w.after(50500 * time.Millisecond)
				seen := map[time.Duration]bool{}
				for i := range 20 {
					name := spec.Name(fmt.Sprint("vpn", i))
					if got := w.verbs(name); got != "CHECK" {
						t.Errorf("%s: %q in the first minute", name, got)
					}
					for _, at := range w.times(spec.Check, name) {
						seen[at.Sub(begin).Round(time.Second)] = true
					}
				}
				if len(seen) < 8 {
					t.Errorf("20 first CHECKs in %d different seconds", len(seen))
				}
			})
		})
	}
}

func TestAdoptedContainerIsPublishedAsRunningAtOnce(t *testing.T) {
	rows := []struct {
		sentence string
		before   func(*world)
	}{
		{"edited in between", func(w *world) { w.bind(edited(w.bindings["p1"], 2)) }},
		{"edited in between, and no executable", func(w *world) {
			w.bind(edited(w.bindings["p1"], 2))
			w.uninstall("/opt/svc/bin/svc-ipsec")
		}},
		{"during a change", func(w *world) {
			w.start()
			w.bind(edited(w.bindings["p1"], 2))
			w.after(time.Second)
			w.current.kill()
			if w.phase("vpn1") != statedir.Changing {
				w.t.Fatal(w.phase("vpn1"))
			}
		}},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.current.stop()
				w.on(spec.Add, "vpn1", behaviour{hangs: true})
				row.before(w)
				w.change(func() { clear(w.published) })
				w.start()
				w.after(time.Millisecond)
				if got := w.status("c1").Code; got != spec.Running {
					t.Errorf("status %q", got)
				}
			})
		})
	}
}

// TestDesiredStateIsReachedAfterACrashAtAnyPoint ends a supervisor after each side effect of each change. The next
// supervisor must reach the desired state that holds then.
func TestDesiredStateIsReachedAfterACrashAtAnyPoint(t *testing.T) {
	first := vpn("p1", "vpn1", "c1")
	changes := []struct {
		sentence string
		before   []spec.Binding
		apply    func(*world)
	}{
		{"created", nil, func(w *world) { w.bind(first) }},
		{"deleted", []spec.Binding{first}, func(w *world) { w.unbind("p1") }},
		{"edited", []spec.Binding{first}, func(w *world) { w.bind(edited(first, 2)) }},
		{"edited, not in place", []spec.Binding{first}, func(w *world) {
			w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeNotInPlace)}, behaviour{})
			w.bind(edited(first, 2))
		}},
		{"another group", []spec.Binding{first}, func(w *world) {
			w.bind(changed(first, func(b *spec.Binding) { b.Container.GroupID = "group-2" }))
		}},
		{"another container", []spec.Binding{first}, func(w *world) { w.bind(vpn("p1", "vpn1", "c2")) }},
		{"another name", []spec.Binding{first}, func(w *world) { w.bind(vpn("p1", "vpn2", "c1")) }},
		{"another type", []spec.Binding{first}, func(w *world) {
			w.bind(changed(first, func(b *spec.Binding) { b.Container.ServiceType = haproxy }))
		}},
		{"a failed unit", []spec.Binding{first}, func(w *world) { w.systemd("svc-vpn1.service", "failed") }},
		{"a damaged record", []spec.Binding{first}, func(w *world) {
			w.corrupt("vpn1", ipsec, truncate)
			w.current.r.Mark("vpn1")
		}},
	}
	interventions := []struct {
		sentence string
		apply    func(*world)
	}{
		{"no further change", func(*world) {}},
		{"unbound in between", func(w *world) { w.unbind("p1") }},
		{"edited in between", func(w *world) { w.bind(edited(first, 3)) }},
		{"another container in between", func(w *world) { w.bind(vpn("p1", "vpn1", "c3")) }},
		{"rebooted in between", (*world).reboot},
	}
	for _, change := range changes {
		for _, intervention := range interventions {
			t.Run(change.sentence+", "+intervention.sentence, func(t *testing.T) {
				points := 0
				for more := true; more && !t.Failed(); {
					inWorld(t, func(w *world) {
						w.bind(change.before...)
						w.start()
						w.untilSettled(time.Second)
						points++
						w.current.crashAfter(points)
						change.apply(w)
						w.after(10 * time.Second)
						more = w.current.isDead()
						w.current.kill()
						intervention.apply(w)
						w.start()
						w.untilSettled(5 * time.Second)
					})
				}
				t.Logf("crashed at %d points", points-1)
			})
		}
	}
}

func TestAddIsUndoneAfterCrash(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: 5 * time.Second}, behaviour{})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(time.Second)
		w.current.kill()
		w.start()
		w.untilSettled(2 * time.Second)
		if got, want := w.verbs("vpn1"), "ADD DEL ADD"; got != want {
			t.Errorf("%q ran, want %q", got, want)
		}
	})
}

func TestWantedContainersAreRecreatedAfterAReboot(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.current.kill()
		w.reboot()
		w.unbind("p2")
		w.start()
		w.untilSettled(2 * time.Second)
		if got := w.verbs("vpn1") + ", " + w.verbs("vpn2"); got != "ADD DEL ADD, ADD DEL" {
			t.Errorf("%q ran", got)
		}
		if got := w.history("c1"); strings.Contains(got, "STOPPING") || strings.Contains(got, "ERROR") {
			t.Errorf("published %q", got)
		}
	})
}

func TestOldStatusesAreRemovedAtTheStart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.published["old"] = spec.ContainerStatus{Code: spec.Running}
		w.bind(vpn("p1", "vpn1", "c1"))
		w.published["c1"] = spec.ContainerStatus{Code: spec.Failed}
		w.setHost(1, -1, "no connection")
		w.start()
		w.after(time.Minute)
		if got := w.allStatuses(); len(got) != 2 {
			t.Errorf("while the host is unknown: %v", got)
		}
		w.setHost(1, -1, "")
		w.untilSettled(time.Second)
	})
}

func TestOldStatusesAreRemovedLaterIfTheyCannotBeListedAtTheStart(t *testing.T) {
	rows := []struct {
		sentence string
		then     func(*world)
	}{
		{"with the next call of MarkHeld", func(w *world) { w.after(31 * time.Second) }},
		{"with the next change of the NSDB", func(w *world) { w.bind(vpn("p2", "vpn2", "c2")) }},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.published["old"] = spec.ContainerStatus{Code: spec.Running}
				w.bind(vpn("p1", "vpn1", "c1"))
				w.change(func() { w.faults.published = errors.New("no answer") })
				w.start()
				w.after(time.Minute)
				if w.status("old").Code == "" {
					t.Fatal("a status that could not be listed was removed")
				}
				w.change(func() { w.faults.published = nil })
				row.then(w)
				w.untilSettled(time.Second)
			})
		})
	}
}

func TestStatusOfAnEarlierRunIsRemovedWithItsBinding(t *testing.T) {
	inWorld(t, func(w *world) {
		w.uninstall("/opt/svc/bin/svc-ipsec")
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(time.Second)
		w.current.kill()
		// so that the next supervisor cannot publish a status
		w.change(func() { w.faults.systemd = errors.New("no answer") })
		w.start()
		w.after(time.Second)
		w.unbind("p1")
		w.change(func() { w.faults.systemd = nil })
		w.untilSettled(time.Minute)
	})
}

func TestDrainRemovesEverything(t *testing.T) {
	rows := []struct {
		sentence string
		before   func(*world)
	}{
		{"running containers", func(*world) {}},
		{"although the NSDB does not answer", func(w *world) { w.setHost(1, -1, "no connection") }},
		{"although the NSDB answers again", func(w *world) { time.AfterFunc(time.Millisecond, w.sendDesired) }},
		{
			"although the first DEL fails",
			func(w *world) { w.on(spec.Del, "vpn1", behaviour{fails: code(spec.CodeIO)}, behaviour{}) },
		},
		{"a container whose ADD runs", func(w *world) {
			w.on(spec.Add, "vpn3", behaviour{takes: 5 * time.Second})
			w.bind(vpn("p3", "vpn3", "c3"))
			w.after(time.Second)
		}},
		{"a container that waits for a retry", func(w *world) {
			w.on(spec.Add, "vpn3", behaviour{fails: code(spec.CodeIO)})
			w.bind(vpn("p3", "vpn3", "c3"))
			w.after(time.Minute)
		}},
		{"a damaged record", func(w *world) { w.corrupt("vpn1", ipsec, truncate) }},
		{"the status of a binding without a worker", func(w *world) {
			w.bind(vpn("p3", "vpn1", "c3"))
			w.after(time.Second)
			if w.status("c3").Code != spec.Failed {
				w.t.Errorf("published %q", w.history("c3"))
			}
		}},
		{"records of two service types", func(w *world) {
			other := changed(vpn("p3", "vpn3", "c3"), func(b *spec.Binding) { b.Container.ServiceType = haproxy })
			store := records{&instance{w: w, left: -1}}
			for _, b := range []spec.Binding{vpn("p3", "vpn3", "c3"), other} {
				if err := store.Write(&statedir.Record{Phase: statedir.Deleted, Container: b.Container}); err != nil {
					w.t.Fatal(err)
				}
			}
		}},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
				w.start()
				w.untilSettled(time.Second)
				row.before(w)
				w.current.r.Drain()
				w.until(10*time.Second, "drained", w.current.r.Drained)
				w.current.stop()
				w.change(func() { clear(w.bindings) })
				if left := slices.Collect(w.differences()); len(left) != 0 {
					t.Errorf("left: %q", left)
				}
			})
		})
	}
}

func TestStopKeepsContainersAndWaitsForVerbs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Add, "vpn2", behaviour{takes: 10 * time.Second})
		w.bind(vpn("p2", "vpn2", "c2"))
		w.after(time.Second)
		begin := time.Now()
		w.current.stop()
		if took := time.Since(begin); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("the stop took %v, the verb 9 s more", took)
		}
		if w.phase("vpn1") != statedir.Added || w.phase("vpn2") != statedir.Added {
			t.Errorf("records %s and %s", w.phase("vpn1"), w.phase("vpn2"))
		}
		w.forgetCalls()
		w.start()
		w.untilSettled(0)
		if len(w.verbCalls()) != 0 {
			t.Errorf("calls %v", w.verbCalls())
		}
	})
}

func TestStopKillsHungVerbsAfterTheGraceTime(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{hangs: true, late: true}, behaviour{})
		w.on(spec.Del, "vpn2", behaviour{hangs: true}, behaviour{})
		w.bind(vpn("p2", "vpn2", "c2"))
		w.start(func(s *Settings) { s.Grace = 5 * time.Second })
		w.untilSettled(time.Second)
		w.unbind("p2")
		w.bind(vpn("p1", "vpn1", "c1"))
		w.after(time.Second)
		begin := time.Now()
		w.current.stop()
		if took := time.Since(begin); took < 4*time.Second || took > 8*time.Second {
			t.Errorf("the stop took %v, the grace time is 5 s", took)
		}
		if got := w.history("c1") + "; " + w.history("c2"); got != "STARTING; STARTING, RUNNING, STOPPING" {
			t.Errorf("published %q: the end of the supervisor counts as a failure", got)
		}
		w.start()
		w.untilSettled(2 * time.Second)
	})
}

func TestVerbKilledByAStopIsNoFailure(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{hangs: true})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start(func(s *Settings) { s.Grace = time.Second })
		w.until(time.Minute, "the second ADD", func() bool { return len(w.times(spec.Add, "vpn1")) == 2 })
		w.current.stop()
		if got := w.history("c1"); got != "STARTING" {
			t.Errorf("published %q", got)
		}
	})
}

func TestNoStepBeginsAfterAStop(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: 5 * time.Second, fails: code(spec.CodeIO), late: true})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(time.Second)
		w.current.stop()
		w.after(time.Minute)
		if got := w.verbs("vpn1"); got != "ADD" {
			t.Errorf("%q ran", got)
		}
	})
}

func TestAThousandNamesConverge(t *testing.T) {
	inWorld(t, func(w *world) {
		const names = 1000
		all := func(edition int) (bindings []spec.Binding) {
			for i := range names {
				port, name := spec.PortID(fmt.Sprint("p", i)), spec.Name(fmt.Sprint("vpn", i))
				b := vpn(port, name, spec.ContainerID(fmt.Sprint("c", i)))
				bindings = append(bindings, edited(b, edition))
			}
			return bindings
		}
		for i := range names {
			if i%10 == 0 { // each of these fails once in one of four ways
				fails := []behaviour{
					{fails: code(spec.CodeIO)},
					{hangs: true},
					{prints: "oops"},
					{fails: code(spec.CodeAgain), late: true},
				}
				w.on(spec.Add, spec.Name(fmt.Sprint("vpn", i)), fails[i/10%4], behaviour{})
			}
		}
		w.bind(all(1)...)
		w.start()
		w.untilSettled(2 * time.Minute)
		w.bind(all(2)...)
		w.untilSettled(time.Minute)
		w.current.kill()
		for i := range names / 2 {
			w.unbind(spec.PortID(fmt.Sprint("p", i)))
		}
		w.start()
		w.untilSettled(time.Minute)
		if rows := w.current.r.Rows(); len(rows) != names/2 {
			t.Errorf("%d rows", len(rows))
		}
	})
}
