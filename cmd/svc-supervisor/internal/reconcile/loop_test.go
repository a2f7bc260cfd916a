package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// TestChangesOfTheNSDB checks for each change in the NSDB which verbs run and which statuses are published.
func TestChangesOfTheNSDB(t *testing.T) {
	first := vpn("p1", "vpn1", "c1")
	rows := []struct {
		sentence string
		change   func(w *world)
		verbs    map[spec.Name]string // that run after the first ADD
		statuses map[spec.ContainerID]string
	}{
		{"binding removed: deleted", func(w *world) { w.unbind("p1") },
			map[spec.Name]string{"vpn1": "DEL"}, map[spec.ContainerID]string{"c1": "STOPPING, removed"}},
		{"another container: deleted, created", func(w *world) { w.bind(vpn("p1", "vpn1", "c2")) },
			map[spec.Name]string{"vpn1": "DEL ADD"},
			map[spec.ContainerID]string{"c1": "STOPPING, removed", "c2": "STARTING, RUNNING"}},
		{
			"another interface name: deleted, then created under the new name",
			func(w *world) { w.bind(vpn("p1", "vpn2", "c1")) },
			map[spec.Name]string{"vpn1": "DEL", "vpn2": "ADD"},
			map[spec.ContainerID]string{"c1": "STARTING, RUNNING"},
		},
		{"another port: deleted, created", func(w *world) { w.unbind("p1"); w.bind(vpn("p2", "vpn1", "c1")) },
			map[spec.Name]string{"vpn1": "DEL ADD"}, nil},
		{"another type: deleted, created, and never STOPPING", func(w *world) {
			w.bind(changed(first, func(b *spec.Binding) { b.Container.ServiceType = haproxy }))
		}, map[spec.Name]string{"vpn1": "DEL ADD"}, map[spec.ContainerID]string{"c1": "STARTING, RUNNING"}},
		{"configuration: reconfigure", func(w *world) { w.bind(edited(first, 2)) },
			map[spec.Name]string{"vpn1": "ADD"}, map[spec.ContainerID]string{"c1": ""}},
		{"configuration id: reconfigure", func(w *world) {
			w.bind(changed(first, func(b *spec.Binding) { b.Container.ConfigurationID = "configuration-2" }))
		}, map[spec.Name]string{"vpn1": "ADD"}, nil},
		{"addresses: reconfigure", func(w *world) {
			w.bind(changed(first, func(b *spec.Binding) { b.Port.Addresses = []string{"169.254.0.5/30"} }))
		}, map[spec.Name]string{"vpn1": "ADD"}, nil},
		{"MAC: reconfigure", func(w *world) {
			w.bind(changed(first, func(b *spec.Binding) { b.Port.MAC = "ca:08:1a:94:29:0e" }))
		}, map[spec.Name]string{"vpn1": "ADD"}, nil},
		{
			"bridge: reconfigure",
			func(w *world) { w.bind(changed(first, func(b *spec.Binding) { b.Port.Bridge = "br0" })) },
			map[spec.Name]string{"vpn1": "ADD"}, nil,
		},
		{"group: the record is rewritten, no verb runs", func(w *world) {
			w.bind(changed(first, func(b *spec.Binding) { b.Container.GroupID = "group-2" }))
		}, map[spec.Name]string{"vpn1": ""}, map[spec.ContainerID]string{"c1": ""}},
		{"white space in the configuration: no change", func(w *world) {
			w.mu.Lock()
			w.held["vpn1"] = holding{"c1", `{ "edition": 1 }`} // no ADD passes the new text to the executable
			w.mu.Unlock()
			w.bind(changed(first, func(b *spec.Binding) { b.Configuration = json.RawMessage(`{ "edition": 1 }`) }))
		}, map[spec.Name]string{"vpn1": ""}, nil},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(first)
				w.start()
				w.untilSettled(time.Second)
				if got := w.verbs("vpn1"); got != "ADD" {
					t.Fatalf("verbs after the binding: %q", got)
				}
				if got := w.history("c1"); got != "STARTING, RUNNING" {
					t.Fatalf("statuses after the first ADD: %q", got)
				}
				w.forgetCalls()
				w.change(func() { clear(w.statusHistory) })
				row.change(w)
				w.untilSettled(5 * time.Second)
				for name, want := range row.verbs {
					if got := w.verbs(name); got != want {
						t.Errorf("%s: %q ran, want %q", name, got, want)
					}
				}
				for id, want := range row.statuses {
					if got := w.history(id); got != want {
						t.Errorf("%s: %q was published, want %q", id, got, want)
					}
				}
			})
		})
	}
}

func TestContainerIsCreatedForALaterBinding(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.after(time.Minute)
		w.bind(vpn("p1", "vpn1", "c1"))
		w.untilSettled(time.Second)
		if got := w.hostStatus(); got != (spec.HostStatus{Weight: 1, Quota: -1, Count: 1}) {
			t.Errorf("host %+v", got)
		}
	})
}

func TestNewNameWaitsForTheOldRecord(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Del, "vpn1", behaviour{takes: 20 * time.Second})
		w.bind(vpn("p1", "vpn2", "c1"))
		w.after(10 * time.Second)
		if got := w.verbs("vpn2"); got != "" {
			t.Errorf("%q ran for the new name while the old one has a record", got)
		}
		if got := w.heldReason("vpn2"); !strings.Contains(got, "held by vpn1") {
			t.Errorf("held because %q", got)
		}
		w.untilSettled(11 * time.Second) // vpn2 is marked when DEL is done, and does not wait for a timer
		if got := w.history("c1"); strings.Contains(got, "STOPPING") || strings.Contains(got, "ERROR") {
			t.Errorf("published %q, but the container was never unbound", got)
		}
	})
}

func TestNameFreedDuringAnObservationIsNotMissed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Del, "vpn1", behaviour{takes: time.Second})
		// The observation of vpn2 finds it held, and ends only after vpn1 is removed.
		w.change(func() { w.slow["vpn2"] = 2 * time.Second })
		w.bind(vpn("p1", "vpn2", "c1"))
		w.until(10*time.Second, "vpn2 RUNNING", w.settled)
	})
}

func TestSlotFreedDuringAnObservationIsNotMissed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.setHost(1, 1, "")
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		for range 20 { // the order of DEL and ADD varies
			w.unbind("p1")
			w.bind(vpn("p2", "vpn2", "c2"))
			w.untilSettled(2 * time.Second)
			w.unbind("p2")
			w.bind(vpn("p1", "vpn1", "c1"))
			w.untilSettled(2 * time.Second)
		}
	})
}

func TestRecordKeepsTheLastValidConfigurationWhileAnEditFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		for edition := 2; edition <= 4; edition++ {
			w.bind(edited(vpn("p1", "vpn1", "c1"), edition))
			w.after(time.Second)
		}
		record := w.readLocked("vpn1")[0].Record
		was, is := string(record.Previous.Configuration), string(record.Conf.Configuration)
		if was != `{"edition":1}` || is != `{"edition":4}` {
			t.Errorf("previous %s, conf %s", was, is)
		}
		w.on(spec.Add, "vpn1")
		w.untilSettled(10 * time.Second)
		if record := w.readLocked("vpn1")[0].Record; record.Previous != nil {
			t.Errorf("previous %s after the edit succeeded", record.Previous.Configuration)
		}
	})
}

func TestEditThatCannotBeMadeInPlaceIsDELAndADD(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeNotInPlace)}, behaviour{})
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.untilSettled(time.Second)
		if got, want := w.verbs("vpn1"), "ADD ADD DEL ADD"; got != want {
			t.Errorf("%q ran, want %q", got, want)
		}
		if got, want := w.history("c1"), "STARTING, RUNNING, STARTING, RUNNING"; got != want {
			t.Errorf("%q was published, want %q", got, want)
		}
	})
}

func TestEditWithoutReconfigureIsDELAndADD(t *testing.T) {
	inWorld(t, func(w *world) {
		proxy := changed(vpn("p1", "vpn1", "c1"), func(b *spec.Binding) { b.Container.ServiceType = haproxy })
		w.bind(proxy)
		w.start()
		w.untilSettled(time.Second)
		w.bind(edited(proxy, 2))
		w.untilSettled(time.Second)
		if got, want := w.verbs("vpn1"), "ADD DEL ADD"; got != want {
			t.Errorf("%q ran, want %q", got, want)
		}
	})
}

func TestEditThatNeedsDELWaitsForAGoodSTATUS(t *testing.T) {
	inWorld(t, func(w *world) {
		proxy := changed(vpn("p1", "vpn1", "c1"), func(b *spec.Binding) { b.Container.ServiceType = haproxy })
		w.bind(proxy)
		w.start()
		w.untilSettled(time.Second)
		w.unready("/opt/svc/bin/svc-haproxy", "no haproxy on this host")
		w.bind(edited(proxy, 2))
		w.after(10 * time.Minute)
		if got := w.verbs("vpn1"); strings.Contains(got, "DEL") || !strings.Contains(got, "CHECK") {
			t.Errorf("%q ran", got)
		}
		row := w.current.r.Rows()[0]
		if want := "/opt/svc/bin/svc-haproxy: no haproxy on this host"; row.Status != "RUNNING" || row.Reason != want {
			t.Errorf("ps shows %s, %q, want RUNNING, %q", row.Status, row.Reason, want)
		}
		if got := w.history("c1"); got != "STARTING, RUNNING" {
			t.Errorf("%q was published", got)
		}
		w.forgetCalls()
		w.unready("/opt/svc/bin/svc-haproxy", "")
		w.untilSettled(time.Second)
		if got := w.verbs("vpn1"); got != "DEL ADD" {
			t.Errorf("%q ran once STATUS was good", got)
		}
	})
}

func TestFailedEditKeepsTheContainerRunning(t *testing.T) {
	for _, row := range []struct {
		sentence string
		fails    behaviour
	}{
		{"an error", behaviour{fails: code(spec.CodeIO)}},
		{"an error after the change", behaviour{fails: code(spec.CodeIO), late: true}},
		{"a bad configuration", behaviour{fails: code(spec.CodeConfiguration)}},
		{"the executable's own code", behaviour{fails: code(spec.CodeOwn)}},
		{"a deadline", behaviour{hangs: true}},
		{"invalid output", behaviour{prints: "oops"}},
		{"a unit that is not the container's", behaviour{prints: `{"cniVersion":"1.1.0","units":["ssh.service"]}`}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.on(spec.Add, "vpn1", row.fails)
				w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
				w.after(10 * time.Minute)
				if got := w.verbs("vpn1"); strings.Contains(got, "DEL") {
					t.Errorf("a failed edit removed the container: %s", got)
				}
				if w.phase("vpn1") != statedir.Changing || w.units["svc-vpn1.service"] == nil {
					t.Error("the container does not run")
				}
				if got := w.status("c1"); got.Code != spec.Running || !strings.Contains(got.Message, "change failed") {
					t.Errorf("status %v", got)
				}
				if strings.Contains(w.history("c1"), "ERROR") {
					t.Errorf("published %q", w.history("c1"))
				}
				w.on(spec.Add, "vpn1")
				w.bind(edited(vpn("p1", "vpn1", "c1"), 3))
				w.untilSettled(time.Second) // an edit ends the back-off
				// A due CHECK runs before the status is published.
				w.until(time.Second, "the message is removed", func() bool { return w.status("c1").Message == "" })
			})
		})
	}
}

func TestRevertedEditIsAppliedAfterAFailedEdit(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)}, behaviour{})
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.after(500 * time.Millisecond)
		w.bind(vpn("p1", "vpn1", "c1")) // the configuration that ran before
		w.untilSettled(time.Second)
		if got, want := w.verbs("vpn1"), "ADD ADD ADD"; got != want {
			t.Errorf("%q ran, want %q: the state after a failed edit is unknown", got, want)
		}
	})
}

func TestReconfigureRunsWhenCHECKAsksForIt(t *testing.T) {
	rows := []struct {
		sentence string
		check    string
		within   time.Duration
	}{
		{"once", `{"code":"RUNNING","again":{"after":300}}`, 7 * time.Minute},
		{"at each CHECK", `{"code":"RUNNING","again":{"after":300}}`, 7 * time.Minute},
		{"now", `{"code":"RUNNING","again":{"after":0}}`, 2 * time.Minute},
	}
	for i, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.forgetCalls()
				if i == 0 {
					w.on(spec.Check, "vpn1", behaviour{prints: row.check}, behaviour{})
				} else {
					w.on(spec.Check, "vpn1", behaviour{prints: row.check})
				}
				w.until(row.within, "reconfigure", func() bool { return strings.Contains(w.verbs("vpn1"), "ADD") })
				if strings.Contains(w.verbs("vpn1"), "DEL") {
					t.Errorf("%q ran", w.verbs("vpn1"))
				}
			})
		})
	}
}

func TestRepeatedRequestsToReconfigureAreLimited(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(
			spec.Add,
			"vpn1",
			behaviour{
				prints: `{"cniVersion":"1.1.0","units":["svc-vpn1.service"],` +
					`"health":{"code":"RUNNING","again":{"after":0}}}`,
			},
		)
		w.start()
		w.after(10 * time.Minute)
		if got := len(w.times(spec.Add, "vpn1")); got > 80 {
			t.Errorf("%d ADDs in ten minutes", got)
		}
		if got := w.status("c1").Code; got != spec.Running {
			t.Errorf("status %v", got)
		}
	})
}

func TestHungExecutableDelaysNoOtherContainer(t *testing.T) {
	inWorld(t, func(w *world) {
		for i := range overcommit*4 - 1 {
			name := spec.Name(fmt.Sprint("hung", i))
			w.on(spec.Add, name, behaviour{hangs: true})
			w.bind(vpn(spec.PortID(name), name, spec.ContainerID(name)))
		}
		w.start(func(s *Settings) { s.Parallel = 4 })
		w.bind(vpn("p1", "vpn1", "c1"))
		w.until(12*time.Second, "vpn1 RUNNING", func() bool { return w.status("c1").Code == spec.Running })
	})
}

func TestSlowADDsThatUseTheProcessorKeepTheirPermits(t *testing.T) {
	inWorld(t, func(w *world) {
		for i := range 20 {
			name := spec.Name(fmt.Sprint("vpn", i))
			w.on(spec.Add, name, behaviour{takes: 20 * time.Second, works: true})
			w.bind(vpn(spec.PortID(name), name, spec.ContainerID(name)))
		}
		w.start(func(s *Settings) { s.Parallel = 4 })
		most := 0
		w.until(3*time.Minute, "the desired state", func() bool {
			w.change(func() { most = max(most, len(w.busy)) })
			return w.settled()
		})
		if most != 4 {
			t.Errorf("%d ADDs ran at once, want 4", most)
		}
	})
}

func TestNumberOfBlockedADDsIsLimited(t *testing.T) {
	inWorld(t, func(w *world) {
		for i := range 40 {
			name := spec.Name(fmt.Sprint("vpn", i))
			w.on(spec.Add, name, behaviour{takes: 20 * time.Second})
			w.bind(vpn(spec.PortID(name), name, spec.ContainerID(name)))
		}
		w.start(func(s *Settings) { s.Parallel = 4 })
		most := 0
		w.until(2*time.Minute, "the desired state", func() bool {
			w.change(func() { most = max(most, len(w.busy)) })
			return w.settled()
		})
		if most != 4*overcommit {
			t.Errorf("%d ADDs ran at once, want %d", most, 4*overcommit)
		}
	})
}

func TestStopDoesNotWaitForAPermit(t *testing.T) {
	inWorld(t, func(w *world) {
		for i := range 20 {
			name := spec.Name(fmt.Sprint("hung", i))
			w.on(spec.Add, name, behaviour{hangs: true})
			w.bind(vpn(spec.PortID(name), name, spec.ContainerID(name)))
		}
		w.start(func(s *Settings) { s.Parallel, s.Grace = 4, time.Second })
		w.after(10 * time.Second)
		begin := time.Now()
		w.current.stop()
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the stop took %v, the grace time is 1 s", took)
		}
	})
}

func TestVerbThatHitsItsDeadlineIsUndoneAndRetried(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{hangs: true, late: true}, behaviour{})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(33 * time.Second)
		if got, want := w.verbs("vpn1"), "ADD DEL ADD"; got != want {
			t.Errorf("%q ran, want %q", got, want)
		}
		if got, want := w.history("c1"), "STARTING, RUNNING"; got != want {
			t.Errorf("published %q after a verb that hung once, want %q", got, want)
		}
	})
}

func TestFailedDELIsRetriedAndKeepsTheRecord(t *testing.T) {
	for _, fails := range []behaviour{
		{fails: code(spec.CodeIO)}, {hangs: true}, {fails: code(spec.CodeIO), late: true},
	} {
		inWorld(t, func(w *world) {
			w.bind(vpn("p1", "vpn1", "c1"))
			w.start()
			w.untilSettled(time.Second)
			w.on(spec.Del, "vpn1", fails)
			w.unbind("p1")
			w.after(5 * time.Minute)
			if got := w.phase("vpn1"); got != statedir.Deleting {
				t.Errorf("record %s", got)
			}
			if got := w.history("c1"); got != "STARTING, RUNNING, STOPPING" {
				t.Errorf("published %q", got)
			}
			w.on(spec.Del, "vpn1")
			w.untilSettled(2 * time.Minute)
		})
	}
}

func TestUnbindDuringADD(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: 5 * time.Second})
		w.start()
		w.bind(vpn("p1", "vpn1", "c1"))
		w.after(time.Second)
		w.unbind("p1")
		w.untilSettled(6 * time.Second)
		if got, want := w.verbs("vpn1"), "ADD DEL"; got != want {
			t.Errorf("%q ran, want %q: a running verb must be allowed to finish", got, want)
		}
		if got := w.history("c1"); strings.Contains(got, "RUNNING") {
			t.Errorf("published %q", got)
		}
	})
}
