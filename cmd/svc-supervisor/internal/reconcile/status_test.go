package reconcile

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// TestStatusOfAFirstADDThatFails checks all published statuses of a container whose first ADD fails.
func TestStatusOfAFirstADDThatFails(t *testing.T) {
	rows := []struct {
		sentence string
		script   []behaviour
		after    time.Duration
		statuses string
	}{
		{"code 7 is an error at once", []behaviour{{fails: code(spec.CodeConfiguration)}}, 500 * time.Millisecond,
			"STARTING, ERROR (scripted (code 7))"},
		{
			"code 7 is published once, however often ADD is retried",
			[]behaviour{{fails: code(spec.CodeConfiguration)}},
			10 * time.Minute,
			"STARTING, ERROR (scripted (code 7))",
		},
		{"code 100 is an error at once", []behaviour{{fails: code(spec.CodeNotInPlace)}}, 500 * time.Millisecond,
			"STARTING, ERROR (scripted (code 100))"},
		{"a code of the executable is an error at once", []behaviour{{fails: code(150)}}, 500 * time.Millisecond,
			"STARTING, ERROR (scripted (code 150))"},
		{
			"another code is no error the first time",
			[]behaviour{{fails: code(spec.CodeIO)}},
			500 * time.Millisecond,
			"STARTING",
		},
		{"another code is an error the second time", []behaviour{{fails: code(spec.CodeIO)}}, 10 * time.Minute,
			"STARTING, ERROR (scripted (code 5))"},
		{"code 11 is never an error", []behaviour{{fails: code(spec.CodeAgain)}}, 10 * time.Minute, "STARTING"},
		{
			"code 11 does not count",
			[]behaviour{{fails: code(spec.CodeAgain)}, {fails: code(spec.CodeIO)}, {}},
			time.Minute,
			"STARTING, RUNNING",
		},
		{"a verb that hangs once is no error", []behaviour{{hangs: true}}, 31 * time.Second, "STARTING"},
		{
			"a verb that hangs twice is an error",
			[]behaviour{{hangs: true}},
			70 * time.Second,
			"STARTING, ERROR (deadline of 30s)",
		},
		{"ERROR ends with RUNNING", []behaviour{{fails: code(spec.CodeConfiguration)}, {}}, time.Minute,
			"STARTING, ERROR (scripted (code 7)), RUNNING"},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.on(spec.Add, "vpn1", row.script...)
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.after(row.after)
				if got := w.history("c1"); got != row.statuses {
					t.Errorf("published %q, want %q", got, row.statuses)
				}
			})
		})
	}
}

func TestCodeElevenIsRetriedAfterAFixedDelay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeAgain)})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(5 * time.Minute)
		times := w.times(spec.Add, "vpn1")
		for i := 1; i < len(times); i++ {
			if delay := times[i].Sub(times[i-1]); delay < againDelay || delay > againDelay*5/4+200*time.Millisecond {
				t.Errorf("delay %d is %v", i, delay)
			}
		}
		if len(times) < 40 {
			t.Errorf("%d ADDs in five minutes", len(times))
		}
	})
}

func TestStatusOfAHeldContainerThatNeverRan(t *testing.T) {
	first := vpn("p1", "vpn1", "c1")
	rows := []struct {
		sentence string
		before   func(*world)
		statuses string
		repair   func(*world)
	}{
		{
			"no executable",
			func(w *world) { w.uninstall("/opt/svc/bin/svc-ipsec") },
			"ERROR (no executable serves type IPSEC)",
			func(w *world) { w.install("/opt/svc/bin/svc-ipsec", ipsec, "1.0.0", true) },
		},
		{
			"STATUS bad",
			func(w *world) { w.unready("/opt/svc/bin/svc-ipsec", "no pluto") },
			"ERROR (/opt/svc/bin/svc-ipsec: no pluto)",
			func(w *world) { w.unready("/opt/svc/bin/svc-ipsec", "") },
		},
		{
			"limit", func(w *world) { w.setHost(1, 0, "") }, "ERROR (LIMIT_EXCEEDED)",
			func(w *world) { w.setHost(1, 1, "") },
		},
		{
			"weight", func(w *world) { w.setHost(0, -1, "") }, "ERROR (WEIGHT_ZERO)",
			func(w *world) { w.setHost(1, -1, "") },
		},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				row.before(w)
				w.bind(first)
				w.start()
				w.after(5 * time.Minute)
				if got := w.history("c1"); got != row.statuses {
					t.Errorf("published %q, want %q", got, row.statuses)
				}
				if got := w.verbs("vpn1"); got != "" {
					t.Errorf("%q ran", got)
				}
				row.repair(w)
				w.untilSettled(time.Second)
				if got, want := w.history("c1"), row.statuses+", STARTING, RUNNING"; got != want {
					t.Errorf("published %q, want %q", got, want)
				}
			})
		})
	}
}

func TestExecutableIsNotMissingBeforeTheFirstScanEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.change(func() { w.scanning = true })
		w.uninstall("/opt/svc/bin/svc-ipsec")
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(time.Minute)
		if got := w.history("c1"); got != "" || len(w.holds) != 0 {
			t.Errorf("published %q, logged %q", got, w.holds)
		}
		w.change(func() { w.scanning = false })
		w.rescan()
		w.after(time.Second)
		want := "container held container=vpn1 reason=no executable serves type IPSEC"
		if !slices.Equal(w.holds, []string{want}) {
			t.Errorf("logged %q", w.holds)
		}
		w.install("/opt/svc/bin/svc-ipsec", ipsec, "1.0.0", true)
		w.untilSettled(time.Second)
	})
}

func TestNothingIsRemovedBeforeTheFirstScanEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.install("/opt/svc/bin/svc-ipsec-0", ipsec, "0.9.0", false)
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.current.kill()
		w.change(func() { delete(w.disk, "vpn2") }) // its resources become a leftover
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.change(func() { w.scanning = true })
		w.uninstall("/opt/svc/bin/svc-ipsec")
		effects := w.effects()
		w.start()
		w.after(time.Minute)
		if w.effects() != effects {
			t.Errorf("effects: %q", w.trace[effects:])
		}
		for _, row := range w.current.r.Rows() {
			if !strings.Contains(row.Reason, "the plugin path") {
				t.Errorf("%s is held with reason %q", row.Name, row.Reason)
			}
		}
		w.change(func() { w.scanning = false })
		w.install("/opt/svc/bin/svc-ipsec", ipsec, "1.0.0", true)
		w.untilSettled(2 * time.Second)
		if got := w.verbs("vpn1"); strings.Contains(got, "DEL") {
			t.Errorf("%q ran", got)
		}
	})
}

func TestStatusOfAContainerThatNeverRanIsRemovedWithItsBinding(t *testing.T) {
	inWorld(t, func(w *world) {
		w.uninstall("/opt/svc/bin/svc-ipsec")
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(time.Second)
		w.unbind("p1")
		w.untilSettled(time.Second)
		if rows := w.current.r.Rows(); len(rows) != 0 {
			t.Errorf("rows %v", rows)
		}
	})
}

func TestHealingIsPublishedAsErrorOnlyAfterAMinute(t *testing.T) {
	rows := []struct {
		sentence string
		damage   func(*world)
		reason   string
	}{
		{
			"ADD fails with code 7",
			func(w *world) { w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeConfiguration)}) },
			"code 7",
		},
		{"ADD fails", func(w *world) { w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)}) }, "code 5"},
		{"DEL fails", func(w *world) { w.on(spec.Del, "vpn1", behaviour{fails: code(spec.CodeIO)}) }, "code 5"},
		{"DEL hangs", func(w *world) { w.on(spec.Del, "vpn1", behaviour{hangs: true}) }, "deadline"},
		{"STATUS turns bad", func(w *world) { w.unready("/opt/svc/bin/svc-ipsec", "no pluto") }, "no pluto"},
		{"the executable is removed", func(w *world) { w.uninstall("/opt/svc/bin/svc-ipsec") }, "no executable"},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.change(func() { clear(w.statusHistory) })
				row.damage(w)
				w.systemd("svc-vpn1.service", "failed")
				w.after(59 * time.Second)
				if got := w.history("c1"); strings.Contains(got, "ERROR") {
					t.Errorf("published %q within a minute", got)
				}
				w.after(20 * time.Second)
				got := w.history("c1")
				if !strings.Contains(got, "ERROR") || !strings.Contains(got, row.reason) {
					t.Errorf("published %q soon after a minute", got)
				}
				w.after(10 * time.Minute)
				if later := w.history("c1"); strings.Count(later, "ERROR") != 1 {
					t.Errorf("published %q: ERROR must be published once", later)
				}
				w.on(spec.Add, "vpn1")
				w.on(spec.Del, "vpn1")
				w.install("/opt/svc/bin/svc-ipsec", ipsec, "1.0.1", true)
				w.untilSettled(32 * time.Second)
			})
		})
	}
}

func TestFirstADDThatCannotBeUndoneIsAnErrorAfterAMinute(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.on(spec.Del, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(59 * time.Second)
		if got := w.history("c1"); strings.Contains(got, "ERROR") {
			t.Errorf("published %q within a minute", got)
		}
		w.after(time.Minute)
		if got := w.history("c1"); strings.Count(got, "ERROR") != 1 {
			t.Errorf("published %q", got)
		}
		w.on(spec.Add, "vpn1")
		w.on(spec.Del, "vpn1")
		w.untilSettled(2 * time.Minute)
	})
}

// TestAnotherContainerUnderTheNameNeverRan checks that the history of a container does not apply to the next container
// under its name.
func TestAnotherContainerUnderTheNameNeverRan(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeConfiguration)})
		w.bind(vpn("p1", "vpn1", "c2"))
		w.after(time.Second)
		if got, want := w.history("c2"), "STARTING, ERROR (scripted (code 7))"; got != want {
			t.Errorf("published %q, want %q", got, want)
		}
		w.current.stop()
		w.change(func() { clear(w.published) })
		w.uninstall("/opt/svc/bin/svc-ipsec")
		w.start()
		w.after(time.Second)
		if got := w.status("c2").Code; got != spec.Failed {
			t.Errorf("after a restart: status %q", got)
		}
	})
}

func TestNameThatIsWantedAgainLaterNeverRan(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.systemd("svc-vpn1.service", "failed")
		w.after(10 * time.Second) // the supervisor has recorded that the container does not run
		w.unbind("p1")
		w.untilSettled(time.Second)
		w.after(20 * time.Second)
		w.bind(vpn("p1", "vpn1", "c1"))
		w.after(500 * time.Millisecond)
		if got := w.history("c1"); strings.Contains(got, "ERROR") {
			t.Errorf("published %q after the first failed ADD", got)
		}
		w.after(10 * time.Second)
		if got := w.status("c1").Code; got != spec.Failed {
			t.Errorf("status %q after the second", got)
		}
	})
}

func TestContainerWithoutUnitsIsRunning(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{noUnits: true})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		if got := w.status("c1"); got.Code != spec.Running || got.NamespaceName != "vpn1" ||
			got.InterfaceName != "vpn1" || got.HostID != "host-1" {
			t.Errorf("status %+v", got)
		}
		w.after(5 * time.Minute)
		w.untilSettled(0)
	})
}

func TestFullDiskChangesNoStatusAndNoContainer(t *testing.T) {
	full := errors.New("no space left on device")
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.change(func() { w.faults.write = full })
		w.change(func() { w.faults.remove = full })
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2), vpn("p2", "vpn2", "c2"))
		w.after(10 * time.Minute)
		if got := w.verbs("vpn1") + w.verbs("vpn2"); strings.ReplaceAll(got, " CHECK", "") != "ADD" {
			t.Errorf("%q ran", got)
		}
		if got := w.history("c1") + "; " + w.history("c2"); got != "STARTING, RUNNING; " {
			t.Errorf("published %q", got)
		}
		w.unbind("p1")
		w.after(time.Minute)
		if got := w.verbs("vpn1"); strings.Contains(got, "DEL") {
			t.Errorf("%q ran without a record", got)
		}
		w.change(func() { w.faults = faults{} })
		w.untilSettled(2 * time.Minute)
	})
}

func TestRecordThatCannotBeRemovedIsRemovedLater(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.start()
		w.until(5*time.Second, "a deleted record", func() bool { return w.phase("vpn1") == statedir.Deleted })
		w.change(func() { w.faults.remove = errors.New("read-only file system") })
		w.unbind("p1")
		w.after(10 * time.Minute)
		w.change(func() { w.faults.remove = nil })
		w.untilSettled(2 * time.Minute)
		if got := w.hostStatus().Count; got != 0 {
			t.Errorf("%d containers on the host", got)
		}
	})
}

func TestADDIsRepeatedIfTheDiskIsFullAfterIt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: time.Second})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(500 * time.Millisecond)
		w.change(func() { w.faults.write = errors.New("no space left on device") })
		w.after(5 * time.Second)
		if w.phase("vpn1") != statedir.Adding {
			t.Fatalf("record %s", w.phase("vpn1"))
		}
		w.change(func() { w.faults.write = nil })
		w.untilSettled(2 * time.Minute)
		if got := w.history("c1"); got != "STARTING, RUNNING" {
			t.Errorf("published %q", got)
		}
	})
}

func TestCodeElevenOfAReconfigureIsNotPublished(t *testing.T) {
	for _, row := range []struct {
		code     spec.Code
		statuses string
	}{
		{spec.CodeAgain, "STARTING, RUNNING"},
		{spec.CodeIO, "STARTING, RUNNING, RUNNING (change failed: scripted (code 5)), RUNNING"},
	} {
		inWorld(t, func(w *world) {
			w.bind(vpn("p1", "vpn1", "c1"))
			w.start()
			w.untilSettled(5 * time.Second)
			w.on(spec.Add, "vpn1", behaviour{fails: code(row.code)}, behaviour{})
			edited := vpn("p1", "vpn1", "c1")
			edited.Configuration = []byte(`{"edited":true}`)
			w.bind(edited)
			w.untilSettled(time.Minute)
			if got := w.history("c1"); got != row.statuses {
				t.Errorf("code %d: published %q, want %q", row.code, got, row.statuses)
			}
		})
	}
}
