package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestTwoBindingsForOneName(t *testing.T) {
	rows := []struct {
		sentence string
		bindings [][]spec.Binding
		runs     spec.ContainerID
		held     spec.ContainerID
		reason   string
	}{
		{
			"without a record the lowest port id wins",
			[][]spec.Binding{{vpn("p1", "vpn1", "c1"), vpn("p2", "vpn1", "c2")}},
			"c1", "c2", "ERROR (name vpn1 is taken by port p1)"},
		{"the binding with the record keeps it", [][]spec.Binding{{vpn("p2", "vpn1", "c2")}, {vpn("p1", "vpn1", "c1")}},
			"c2", "c1", "ERROR (name vpn1 is taken by port p2)"},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				for _, b := range row.bindings {
					w.bind(b...)
					w.after(time.Second)
				}
				check := func(moment string) {
					t.Helper()
					if w.namespaces["vpn1"].owner.ContainerID != row.runs || w.status(row.runs).Code != spec.Running {
						t.Errorf("%s: %s does not run", moment, row.runs)
					}
					if got := w.history(row.held); got != row.reason {
						t.Errorf("%s: status of %s: %q", moment, row.held, got)
					}
					if got := w.heldReason("vpn1"); !strings.Contains(got, "is taken by") {
						t.Errorf("%s: ps shows %q", moment, got)
					}
				}
				check("at first")
				w.systemd("svc-vpn1.service", "failed")
				w.after(2 * time.Second)
				check("healed")
				w.current.stop()
				w.start()
				w.after(time.Second)
				check("after a restart")
				w.reboot()
				taken := "name vpn1 is taken by port " + w.portOf(row.runs)
				w.change(func() { w.published[row.held] = spec.ContainerStatus{Code: spec.Failed, Message: taken} })
				w.current.stop()
				w.start()
				w.after(2 * time.Second)
				check("after a reboot")
				w.unbind(spec.PortID(w.portOf(row.runs)))
				w.untilSettled(time.Second)
				if got := w.history(row.held); !strings.HasSuffix(got, "STARTING, RUNNING") {
					t.Errorf("status of the other container: %q", got)
				}
			})
		})
	}
}

func (w *world) portOf(id spec.ContainerID) string {
	for port, b := range w.bindings {
		if b.Container.ContainerID == id {
			return string(port)
		}
	}
	return ""
}

func TestBindingWithTheRecordKeepsTheNameDuringHealing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p2", "vpn1", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)}, behaviour{fails: code(spec.CodeIO)}, behaviour{})
		w.systemd("svc-vpn1.service", "failed")
		w.until(time.Minute, "c2 RUNNING again", func() bool {
			return w.phase("vpn1") == "added" && w.history("c2") == "STARTING, RUNNING, STARTING, RUNNING"
		})
		if got := w.history("c2"); strings.Contains(got, "STOPPING") || strings.Contains(got, "ERROR") {
			t.Errorf("published %q", got)
		}
		for _, call := range w.verbCalls() {
			if call.id == "c1" {
				t.Errorf("%s of c1 ran", call.verb)
			}
		}
	})
}

// TestBindingWithoutANameDoesNotBlockItsContainerID has three bindings: the first gets neither the name, which a record
// has, nor therefore the container id.
func TestBindingWithoutANameDoesNotBlockItsContainerID(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p5", "vpn1", "c5"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c1"))
		w.after(time.Minute)
		if got := w.status("c1"); got.Code != spec.Running || w.namespaces["vpn2"].owner.ContainerID != "c1" {
			t.Errorf("status %+v, published %s; %s", got, w.history("c1"), w.heldReason("vpn2"))
		}
		w.unbind("p5") // now the first binding could have the name
		w.after(time.Minute)
		if got := w.status("c1"); got.Code != spec.Running || strings.Contains(w.verbs("vpn2"), "DEL") {
			t.Errorf("status %+v, verbs %s", got, w.verbs("vpn2"))
		}
	})
}

func TestTwoNamesForOneContainerID(t *testing.T) {
	rows := []struct {
		sentence string
		bindings []spec.Binding // bound one after the other, unless together is set
		together bool
		runs     spec.Name
		held     spec.Name
	}{
		{
			"without a record the lowest port id wins",
			[]spec.Binding{vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c1")},
			true,
			"vpn1",
			"vpn2",
		},
		{
			"the binding with the record keeps it",
			[]spec.Binding{vpn("p2", "vpn2", "c1"), vpn("p1", "vpn1", "c1")},
			false,
			"vpn2",
			"vpn1",
		},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.start()
				if row.together {
					w.bind(row.bindings...)
				} else {
					w.bind(row.bindings[0])
					w.after(time.Second)
					w.bind(row.bindings[1])
				}
				w.after(time.Second)
				check := func(moment string) {
					t.Helper()
					if w.phase(row.runs) != "added" || w.phase(row.held) != "none" {
						t.Errorf("%s: records %s and %s", moment, w.phase(row.runs), w.phase(row.held))
					}
					if got := w.heldReason(row.held); !strings.Contains(got, "c1") ||
						!strings.Contains(got, string(row.runs)) {
						t.Errorf("%s: held because %q", moment, got)
					}
					if got := w.history("c1"); strings.Contains(got, "ERROR") || strings.Contains(got, "STOPPING") ||
						!strings.HasSuffix(got, "RUNNING") {
						t.Errorf("%s: status of the running container: %q", moment, got)
					}
				}
				check("at first")
				w.systemd("svc-"+string(row.runs)+".service", "failed")
				w.after(2 * time.Second)
				check("healed")
				w.current.stop()
				w.start()
				w.after(time.Second)
				check("after a restart")
				for port, b := range w.bindings {
					if b.Container.InterfaceName == row.runs {
						w.unbind(port)
					}
				}
				w.untilSettled(time.Second)
				if got := w.history("c1"); strings.Contains(got, "STOPPING") {
					t.Errorf("published %q, but the container was never unbound", got)
				}
			})
		})
	}
}

func TestTwoBindingsWithTheSameNameAndContainerID(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn1", "c1"))
		w.after(time.Second)
		w.unbind("p2")
		w.after(time.Second)
		if got := w.history("c1"); got != "STARTING, RUNNING" {
			t.Errorf("status of the running container: %q", got)
		}
	})
}

func TestStatusOfAHeldBindingStaysWhileTheBindingIsUnread(t *testing.T) {
	unread := func(port spec.PortID) spec.Binding {
		return spec.Binding{PortID: port, Reading: spec.Unread, Fault: "file is incomplete"}
	}
	rows := []struct {
		sentence string
		id       spec.ContainerID
		unread   func(*world)
		gone     spec.PortID
	}{
		{"it has no worker", "c2", func(w *world) { w.bind(unread("p2")) }, "p2"},
		{
			"it has no worker, and the binding that has the name is unread",
			"c2",
			func(w *world) { w.bind(unread("p1")) },
			"p2",
		},
		{"it has no worker, and the host is unread", "c2", func(w *world) { w.setHost(1, -1, "no Host object") }, "p2"},
		{"it has no executable", "c3", func(w *world) { w.bind(unread("p3")) }, "p3"},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn1", "c2"))
				w.bind(changed(vpn("p3", "vpn3", "c3"), func(b *spec.Binding) { b.Container.ServiceType = "BGP" }))
				w.start()
				w.after(time.Second)
				published := w.history(row.id)
				if !strings.HasPrefix(published, "ERROR") {
					t.Fatalf("published %q", published)
				}
				row.unread(w)
				w.after(5 * time.Minute)
				if got := w.history(row.id); got != published {
					t.Errorf("published %q", got)
				}
				w.unbind(row.gone)
				w.setHost(1, -1, "")
				w.bind(vpn("p1", "vpn1", "c1"))
				w.after(time.Second)
				if _, there := w.allStatuses()[row.id]; there {
					t.Errorf("published %q after its binding was removed", w.history(row.id))
				}
			})
		})
	}
}

func TestHeldBindingPublishesTheStatusAfterTheContainerIsRemoved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(vpn("p3", "vpn2", "c1")) // it does not get the name vpn2, and c1 runs under another name
		w.after(time.Second)
		if got := w.history("c1"); got != "STARTING, RUNNING" {
			t.Errorf("published %q", got)
		}
		w.unbind("p1")
		w.until(time.Minute, "c1 ERROR", func() bool { return w.status("c1").Code == spec.Failed })
		w.unbind("p3")
		w.untilSettled(time.Second)
	})
}

func TestStatusOfTheFormerContainerIsRemovedWhenTheNextOneIsHeld(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(vpn("p1", "vpn1", "c2"))
		w.after(5 * time.Second)
		if got := w.history("c1"); got != "STARTING, RUNNING, STOPPING, removed" {
			t.Errorf("status of the former container: %q", got)
		}
		if got := w.history("c2"); got != "STARTING, RUNNING" {
			t.Errorf("status of the container that runs under another name: %q", got)
		}
		w.unbind("p1")
		w.untilSettled(time.Second)
		w.bind(vpn("p1", "vpn1", "c2"))
		w.unbind("p2")
		w.untilSettled(time.Second)
	})
}

func TestReasonNamesTheSameHolderEachTime(t *testing.T) {
	holders := newHolders()
	for name, h := range map[spec.Name]holder{
		"vpn2": {port: "p9", container: "c1"}, "vpn3": {port: "p1", container: "c9"},
		"vpn4": {port: "p8", container: "c1"},
	} {
		holders.set(name, h)
	}
	c := sortClaims(&spec.Desired{Bindings: []spec.Binding{vpn("p1", "vpn1", "c1")}})
	for range 100 {
		if got := c.claim("vpn1", holders).Taken; got != "container id c1 is held by vpn2" {
			t.Fatalf("taken: %q", got)
		}
	}
}

func TestStatusMovesWithABindingToAnUnknownName(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(spec.Binding{PortID: "p1", Reading: spec.Unread, Fault: "file is incomplete"})
		w.bind(vpn("p2", "vpn1", "c2"))
		w.until(time.Minute, "vpn2 removed", func() bool { return w.phase("vpn2") == "none" })
		w.unbind("p2")
		w.bind(vpn("p1", "vpn1", "c1"))
		w.untilSettled(time.Second)
	})
}

func TestTwoNamesSwapContainers(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.bind(vpn("p1", "vpn1", "c2"), vpn("p2", "vpn2", "c1"))
		w.untilSettled(2 * time.Second)
		w.bind(vpn("p1", "vpn2", "c2"), vpn("p2", "vpn1", "c1"))
		w.untilSettled(2 * time.Second)
	})
}

func TestBindingWithoutAValidNameIsPublishedAndDelaysNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		refused := vpn("p2", "", "c2")
		refused.Reading, refused.Fault = spec.Refused, `bindings/host-1/p2: interfaceName "../x": allowed: …`
		w.bind(vpn("p1", "vpn1", "c1"), refused)
		w.start()
		w.after(time.Second)
		if got, want := w.history("c2"), "ERROR ("+refused.Fault+")"; got != want {
			t.Errorf("published %q, want %q", got, want)
		}
		if got := w.history("c1"); got != "STARTING, RUNNING" {
			t.Errorf("status of the other container: %q", got)
		}
		w.bind(vpn("p2", "vpn2", "c2"))
		w.untilSettled(time.Second)
		w.bind(refused)
		w.after(time.Second)
		w.unbind("p2")
		w.untilSettled(time.Second)
	})
}

// TestRefusedBindingKeepsTheContainerRunning edits a binding so that it is refused although its name is valid. The
// container keeps running, because such an edit may be a mistake.
func TestRefusedBindingKeepsTheContainerRunning(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		for _, change := range []func(*spec.Binding){
			func(b *spec.Binding) { b.Container.ServiceType = "" },
			func(b *spec.Binding) { b.Container.ContainerID = "" },
			func(b *spec.Binding) { b.Port = spec.Port{} },
		} {
			refused := changed(vpn("p1", "vpn1", "c1"), change)
			refused.Reading, refused.Fault = spec.Refused, "refused"
			w.bind(refused)
			w.after(5 * time.Minute)
			if got := w.verbs("vpn1"); strings.Contains(got, "DEL") || strings.Count(got, "ADD") != 1 {
				t.Errorf("%q ran", got)
			}
			if got := w.history("c1"); got != "STARTING, RUNNING" {
				t.Errorf("published %q", got)
			}
		}
		w.bind(vpn("p1", "vpn1", "c1"))
		w.untilSettled(time.Second)
	})
}

func TestLimit(t *testing.T) {
	inWorld(t, func(w *world) {
		w.setHost(1, 3, "")
		w.start(func(s *Settings) { s.Parallel = 20 })
		for i := range 10 {
			port, name := spec.PortID(fmt.Sprint("p", i)), spec.Name(fmt.Sprint("vpn", i))
			w.bind(vpn(port, name, spec.ContainerID(fmt.Sprint("c", i))))
		}
		count := func() (running, refused int) {
			for _, status := range w.allStatuses() {
				switch {
				case status.Code == spec.Running:
					running++
				case status.Code == spec.Failed && status.Message == spec.LimitExceeded:
					refused++
				}
			}
			return running, refused
		}
		expect := func(moment string, running int) {
			t.Helper()
			w.after(2 * time.Second)
			if r, e := count(); r != running || e != len(w.bindings)-running {
				t.Errorf("%s: %d RUNNING, %d over the limit, want %d", moment, r, e, running)
			}
			want := spec.HostStatus{Weight: w.host.Weight, Quota: max(0, w.host.Limit-running), Count: running}
			if got := w.hostStatus(); got != want {
				t.Errorf("%s: host %+v, want %+v", moment, got, want)
			}
		}
		expect("at first", 3)
		w.setHost(1, 5, "")
		expect("raised", 5)
		w.setHost(1, 1, "")
		expect("lowered", 5)
		for _, name := range slices.Collect(maps.Keys(w.namespaces)) {
			w.systemd(name.Unit(), "failed")
		}
		expect("healed over the limit", 5)
		w.reboot()
		w.current.stop()
		w.start()
		w.after(time.Second)
		expect("after a reboot over the limit", 5)
		w.setHost(1, 5, "")
		for port, b := range w.bindings {
			if w.status(b.Container.ContainerID).Code == spec.Running {
				w.unbind(port)
				break
			}
		}
		expect("one slot released", 5)
	})
}

func TestWeightZeroHoldsOnlyNewNames(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.setHost(0, -1, "")
		w.bind(vpn("p2", "vpn2", "c2"), edited(vpn("p1", "vpn1", "c1"), 2))
		w.after(time.Second)
		w.systemd("svc-vpn1.service", "failed")
		w.after(2 * time.Second)
		if w.status("c1").Code != spec.Running || w.history("c2") != "ERROR (WEIGHT_ZERO)" {
			t.Errorf("published %q and %q", w.history("c1"), w.history("c2"))
		}
		w.setHost(1, -1, "")
		w.untilSettled(time.Second)
	})
}

func TestSlotIsKeptIfTheHostBecomesUnreadDuringHealing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.setHost(1, 1, "")
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Del, "vpn1", behaviour{takes: 5 * time.Second})
		w.systemd("svc-vpn1.service", "failed")
		w.after(time.Second)
		w.setHost(1, 1, "no Host object")
		w.after(time.Minute)
		if got := w.phase("vpn1"); got != "deleted" {
			t.Errorf("record %s", got)
		}
		w.current.stop()
		w.bind(vpn("p0", "vpn0", "c0"))
		w.setHost(1, 1, "")
		w.start()
		w.after(2 * time.Second)
		if w.status("c1").Code != spec.Running || w.status("c0").Message != spec.LimitExceeded {
			t.Errorf("published %q and %q", w.history("c1"), w.history("c0"))
		}
	})
}

func TestUnreadBindingHasARowUntilItsNameIsKnown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.bind(spec.Binding{PortID: "p1", Reading: spec.Unread, Fault: "bindings/host-1/p1: unknown key"})
		w.after(time.Second)
		rows := w.current.r.Rows()
		if len(rows) != 1 || rows[0].Name != "" || rows[0].PortID != "p1" || rows[0].Status != "UNKNOWN" ||
			rows[0].Reason != "bindings/host-1/p1: unknown key" {
			t.Errorf("rows %+v", rows)
		}
		w.bind(vpn("p1", "vpn1", "c1"))
		w.untilSettled(time.Second)
		if rows := w.current.r.Rows(); len(rows) != 1 || rows[0].Name != "vpn1" {
			t.Errorf("rows %+v", rows)
		}
		// The row of the name shows the reason.
		w.bind(spec.Binding{PortID: "p1", Reading: spec.Unread, Fault: "file is incomplete"})
		w.after(time.Second)
		if rows := w.current.r.Rows(); len(rows) != 1 || rows[0].Name != "vpn1" ||
			rows[0].Reason != "file is incomplete" {
			t.Errorf("rows %+v", rows)
		}
	})
}

func TestEveryContainerHasARowBeforeItsADDEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{takes: 20 * time.Second})
		w.bind(vpn("p1", "vpn1", "c1"), vpn("p2", "vpn2", "c2"))
		w.start()
		w.until(time.Second, "both are seen", func() bool { return w.current.r.HasAllRows() })
		if rows := w.current.r.Rows(); len(rows) != 2 || rows[0].Status != "STARTING" {
			t.Errorf("rows %+v", rows)
		}
		w.untilSettled(time.Minute)
	})
}
