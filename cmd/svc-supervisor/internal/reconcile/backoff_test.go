package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

func TestBackOffGrowsAndEndsWithAnEdit(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.start()
		w.after(10 * time.Minute)
		times := w.times(spec.Add, "vpn1")
		want := time.Second
		for i := 1; i < len(times); i++ {
			// ADD and the DEL after it take 100 ms each. The delay begins at the end of ADD.
			delay := times[i].Sub(times[i-1]) - 100*time.Millisecond
			if delay < want || delay > want+want/4+100*time.Millisecond {
				t.Errorf("delay %d is %v, want %v and up to a quarter more", i, delay, want)
			}
			want = min(2*want, time.Minute)
		}
		if len(times) < 13 {
			t.Errorf("%d ADDs in ten minutes", len(times))
		}
		for _, deleted := range w.times(spec.Del, "vpn1") {
			inTime := func(added time.Time) bool { return deleted.Sub(added) == 100*time.Millisecond }
			if !slices.ContainsFunc(times, inTime) {
				t.Error("the DEL after a failed ADD was late")
			}
		}
		w.until(time.Second, "the next back-off", func() bool { return w.phase("vpn1") == statedir.Deleted })
		w.forgetCalls()
		w.bind(edited(vpn("p1", "vpn1", "c1"), 2))
		w.after(time.Second)
		if got := w.verbs("vpn1"); got != "ADD DEL" {
			t.Errorf("%q ran in the second after an edit", got)
		}
		w.until(1300*time.Millisecond, "the first delay again", func() bool {
			return len(w.times(spec.Add, "vpn1")) == 2
		})
	})
}

func TestBackOffsAreRandomized(t *testing.T) {
	inWorld(t, func(w *world) {
		seen := map[time.Duration]bool{}
		w.start(func(s *Settings) { s.Parallel = 50 })
		for i := range 20 {
			name := spec.Name(fmt.Sprint("vpn", i))
			w.on(spec.Add, name, behaviour{fails: code(spec.CodeIO)})
			w.bind(vpn(spec.PortID(name), name, spec.ContainerID(name)))
		}
		w.after(5 * time.Second)
		for i := range 20 {
			times := w.times(spec.Add, spec.Name(fmt.Sprint("vpn", i)))
			seen[times[1].Sub(times[0])] = true
		}
		if len(seen) < 10 {
			t.Errorf("20 containers that failed together were retried at %d different times", len(seen))
		}
	})
}

func TestNewExecutableEndsTheBackOff(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(spec.Add, "vpn1", behaviour{fails: code(spec.CodeIO)})
		w.start()
		w.after(5 * time.Minute)
		w.on(spec.Add, "vpn1")
		w.install("/opt/svc/bin/svc-ipsec-2", ipsec, "2.0.0", true)
		w.untilSettled(time.Second)
		w.bind(vpn("p2", "vpn2", "c2"))
		w.untilSettled(time.Second)
		if got := w.verbCalls()[len(w.verbCalls())-1].path; got != "/opt/svc/bin/svc-ipsec-2" {
			t.Errorf("the new container was added by %s", got)
		}
	})
}

func TestBrokenContainerIsRecreatedWithDelayAfterAFailedDEL(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(spec.Del, "vpn1", behaviour{fails: code(spec.CodeIO)}, behaviour{})
		w.start()
		w.untilSettled(time.Second)
		w.systemd("svc-vpn1.service", "failed")
		w.until(5*time.Second, "ps shows the failed DEL", func() bool {
			return w.current.r.Rows()[0].Reason == "DEL failed, will be retried: scripted (code 5)"
		})
		w.until(5*time.Second, "ps shows what broke", func() bool {
			return w.heldReason("vpn1") == "svc-vpn1.service failed; ADD follows after a delay"
		})
		w.untilSettled(5 * time.Second)
		if waited := w.times(spec.Add, "vpn1")[1].Sub(w.times(spec.Del, "vpn1")[1]); waited < firstDelay {
			t.Errorf("ADD ran %v after the second DEL", waited)
		}
	})
}

func TestContainerThatFailsAfterEachADDIsRecreatedWithDelay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.on(spec.Add, "vpn1", behaviour{unit: "failed"})
		w.start()
		w.after(10 * time.Minute)
		if got := len(w.times(spec.Add, "vpn1")); got > 20 || got < 10 {
			t.Errorf("%d ADDs in ten minutes", got)
		}
		w.on(spec.Add, "vpn1")
		// RUNNING is published after a minute without a failure
		w.untilSettled(lastDelay*5/4 + crashPause + 10*time.Second)
		w.after(2 * time.Minute)
		w.forgetCalls()
		w.systemd("svc-vpn1.service", "")
		// it was settled for more than a minute, so the delay starts again at firstDelay
		w.untilSettled(2 * time.Second)
	})
}
