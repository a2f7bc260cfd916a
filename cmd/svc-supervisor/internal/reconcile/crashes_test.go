package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

const vpn1Unit = "svc-vpn1.service"

// crash simulates that the daemon of vpn1 fails and that systemd restarts it.
func (w *world) crash(line string) {
	w.change(func() {
		w.exit = unit.Exit{Result: "exit-code", Code: 1, Status: 3}
		w.lines[vpn1Unit] = line
		p := w.units[vpn1Unit].unit
		p.ActiveState, p.SubState = "activating", "auto-restart"
		w.units[vpn1Unit].unit = p
	})
	w.current.r.UnitChanged("vpn1")
	w.after(100 * time.Millisecond)
	w.change(func() {
		w.restarts[vpn1Unit]++
		p := w.units[vpn1Unit].unit
		p.ActiveState, p.SubState = "active", "running"
		w.units[vpn1Unit].unit = p
	})
	w.current.r.UnitChanged("vpn1")
	w.after(100 * time.Millisecond)
}

func (w *world) row1() Row { return w.current.r.Rows()[0] }

func TestDaemonThatKeepsFailingHasAStableStatus(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		for n := range 4 {
			w.crash("cannot open /dev/null")
			status := w.status("c1")
			if status.Code != spec.Running ||
				!strings.HasPrefix(status.Message, vpn1Unit+" failed: exit-code: status 3: cannot open /dev/null (") {
				t.Errorf("after failure %d: %+v", n+1, status)
			}
			if row := w.row1(); row.Restarts != n+1 || row.Reason != status.Message || row.Status != "RUNNING" {
				t.Errorf("row %+v", row)
			}
			w.after(4 * time.Second)
		}
		w.crash("the fifth")
		if status := w.status("c1"); status.Code != spec.Failed ||
			!strings.Contains(status.Message, "the fifth (5 or more failures within 10m0s)") {
			t.Errorf("after five failures: %+v", status)
		}
		w.after(50 * time.Second)
		w.crash("the sixth")
		w.after(58 * time.Second)
		if status := w.status("c1"); status.Code != spec.Failed {
			t.Errorf("before a minute without a failure: %+v", status)
		}
		w.after(4 * time.Second)
		if status := w.status("c1"); status.Code != spec.Running || status.Message != "" || w.row1().Reason != "" {
			t.Errorf("after a minute without a failure: %+v", status)
		}
		if published := w.history("c1"); strings.Count(published, "STARTING") != 1 ||
			strings.Contains(w.verbs("vpn1"), "DEL") {
			t.Errorf("published %q, ran %q", published, w.verbs("vpn1"))
		}
		if n := w.row1().Restarts; n != 6 {
			t.Errorf("%d restarts", n)
		}
	})
}

func TestFailuresFarApartAreNoError(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		for range 20 {
			w.crash("")
			w.after(3 * time.Minute)
			if status := w.status("c1"); status.Code != spec.Running || status.Message != "" {
				t.Errorf("%+v", status)
			}
		}
		if published := w.history("c1"); strings.Contains(published, "ERROR") {
			t.Errorf("published %q", published)
		}
	})
}

func TestContainerThatFailsAfterEachADDHasAStableStatus(t *testing.T) {
	inWorld(t, func(w *world) {
		w.change(func() {
			w.exit = unit.Exit{Result: "exit-code", Code: 1, Status: 3}
			w.lines[vpn1Unit] = "bad option"
		})
		w.on(spec.Add, "vpn1", behaviour{unit: "failed"})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.until(5*time.Minute, "ERROR", func() bool { return w.status("c1").Code == spec.Failed })
		published := w.history("c1")
		// The first failure is healed like any other. From the second one on, the status does not change.
		after, found := strings.CutPrefix(published, "STARTING, RUNNING, STARTING, RUNNING, ")
		if !found || strings.Contains(after, "STARTING") || strings.Count(published, "ERROR") != 1 ||
			!strings.Contains(after, "failed: exit-code: status 3: bad option") {
			t.Errorf("published %q", published)
		}
		w.after(20 * time.Minute)
		if later := w.history("c1"); later != published {
			t.Errorf("published %q", later)
		}
		w.on(spec.Add, "vpn1")
		w.until(3*time.Minute, "RUNNING", func() bool { return w.status("c1").Code == spec.Running })
		if n := w.row1().Restarts; n < 10 {
			t.Errorf("%d restarts", n)
		}
	})
}

func TestRestartsBeforeTheStartAreShownButNotCounted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.current.stop()
		w.change(func() { w.restarts[vpn1Unit] = 7 })
		w.start()
		w.after(2 * time.Minute) // until a CHECK has run
		if row := w.row1(); row.Restarts != 7 || row.Reason != "" || w.status("c1").Message != "" {
			t.Errorf("%+v, %+v", row, w.status("c1"))
		}
		w.change(func() { w.restarts[vpn1Unit] = 0 }) // as after systemctl restart
		w.current.r.UnitChanged("vpn1")
		w.after(time.Second)
		if row := w.row1(); row.Restarts != 0 || row.Reason != "" {
			t.Errorf("%+v", row)
		}
	})
}

// TestRestartsBeforeTheStartAreNotCountedAfterAReconfigure has an edit before the counters are read for the first time.
func TestRestartsBeforeTheStartAreNotCountedAfterAReconfigure(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.current.stop()
		w.change(func() { w.restarts[vpn1Unit] = 7 })
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.start()
		w.after(2 * time.Minute) // until a CHECK has run
		if got := w.verbs("vpn1"); strings.Count(got, "ADD") != 2 {
			t.Fatalf("verbs %s", got)
		}
		if row := w.row1(); row.Restarts != 7 || row.Reason != "" || strings.Contains(w.history("c1"), "ERROR") {
			t.Errorf("%+v, published %s", row, w.history("c1"))
		}
		w.crash("a failure of now")
		if row := w.row1(); row.Restarts != 8 || !strings.Contains(row.Reason, "a failure of now") {
			t.Errorf("%+v", row)
		}
	})
}

func TestCHECKThatFailsAfterEachADDHasAStableStatus(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Check, "vpn1", behaviour{fails: &spec.Error{Code: 102, Msg: "no device"}})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start(func(s *Settings) { s.CheckInterval = 10 * time.Second })
		w.until(10*time.Minute, "ERROR", func() bool { return w.status("c1").Code == spec.Failed })
		after, found := strings.CutPrefix(w.history("c1"), "STARTING, RUNNING, STARTING, RUNNING, ")
		if !found || strings.Contains(after, "STARTING") ||
			!strings.Contains(after, "ERROR (CHECK failed twice: no device (code 102) (5 or more failures") {
			t.Errorf("published %q", w.history("c1"))
		}
		w.on(spec.Check, "vpn1")
		w.until(4*time.Minute, "RUNNING", func() bool { return w.status("c1").Code == spec.Running })
	})
}
