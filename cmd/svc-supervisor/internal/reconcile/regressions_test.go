package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestUnchangedContainerIsNotRemovedIfItsReconfigureIsImpossibleInPlace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1",
			behaviour{prints: answer(&spec.Health{Code: spec.Running, Again: &spec.Again{After: 5}})},
			behaviour{fails: code(spec.CodeNotInPlace)})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(time.Minute)
		if ran := w.verbs("vpn1"); strings.Contains(ran, "DEL") || strings.Count(ran, "ADD") != 2 {
			t.Errorf("ran %q", ran)
		}
		w.untilSettled(time.Second)
	})
}

func TestNextContainerUnderANameHasNoHistory(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		// The binding is replaced while DEL of the first container runs.
		w.on(spec.Del, "vpn1", behaviour{takes: 5 * time.Second})
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeConfiguration)})
		w.unbind("p1")
		w.after(2 * time.Second)
		w.bind(vpn("p1", "vpn1", "c2"))
		w.after(10 * time.Second)
		if got := w.history("c2"); got != "STARTING, ERROR (scripted (code 7))" {
			t.Errorf("published %q", got)
		}
	})
}

func TestFlappingReasonOfSTATUSEndsNoBackOff(t *testing.T) {
	inWorld(t, func(w *world) {
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.on(spec.Del, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.after(5 * time.Second)
		w.unready("/opt/svc/bin/svc-ipsec", "no daemon")
		w.after(time.Minute)
		before := len(w.times(spec.Del, "vpn1"))
		for n := range 20 {
			w.unready("/opt/svc/bin/svc-ipsec", fmt.Sprintf("%d jobs are queued", n))
			w.after(time.Second)
		}
		if dels := len(w.times(spec.Del, "vpn1")) - before; before == 0 || dels > 3 {
			t.Errorf("DEL ran %d times in 20 s", dels)
		}
	})
}

func TestFailingCHECKRunsAtTheIntervalWhileSTATUSIsBad(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start(func(s *Settings) { s.CheckInterval = time.Minute })
		w.untilSettled(time.Second)
		w.unready("/opt/svc/bin/svc-ipsec", "no daemon")
		w.on(spec.Check, "vpn1", behaviour{fails: code(spec.CodeUnknownContainer)})
		w.after(10 * time.Minute)
		if checks := len(w.times(spec.Check, "vpn1")); checks < 9 || checks > 14 {
			t.Errorf("CHECK ran %d times in ten minutes", checks)
		}
	})
}

func TestDamagedRecordIsShownWhileItIsReplaced(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.on(spec.Add, "vpn1", behaviour{takes: 5 * time.Second})
		w.corrupt("vpn1", ipsec, truncate)
		w.current.r.Mark("vpn1")
		w.after(2 * time.Second)
		if rows := w.current.r.Rows(); len(rows) != 1 || rows[0].Status != "RUNNING" {
			t.Errorf("rows: %+v", rows)
		}
	})
}

func TestLeftoverThatCannotBeRemovedIsPublished(t *testing.T) {
	inWorld(t, func(w *world) {
		w.leaveUnit()
		w.start()
		w.bind(vpn("p1", "vpn1", "c1"))
		w.after(2 * time.Minute)
		if got := w.history("c1"); !strings.HasPrefix(got, "ERROR (remove the leftover was taken 3 times") {
			t.Errorf("published %q", got)
		}
	})
}
