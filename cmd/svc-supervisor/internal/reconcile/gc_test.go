package reconcile

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// collected returns how often GC of an executable ran.
func (w *world) collected(path string) (count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, call := range w.calls {
		if call.verb == spec.GC && call.path == path {
			count++
		}
	}
	return count
}

func TestGCRunsSoonAfterTheStartAndThenDaily(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start(func(s *Settings) { s.CheckInterval = time.Hour })
		for _, row := range []struct {
			after time.Duration
			want  int
		}{{20 * time.Second, 0}, {time.Minute, 1}, {23 * time.Hour, 1}, {time.Hour, 2}} {
			w.after(row.after)
			for _, path := range []string{"/opt/svc/bin/svc-ipsec", "/opt/svc/bin/svc-haproxy"} {
				if got := w.collected(path); got != row.want {
					t.Errorf("after %v more: GC of %s ran %d times, want %d", row.after, path, got, row.want)
				}
			}
		}
	})
}

// TestGCDoesNotRunBesideAVerbOfAnotherVersion checks the lock per service type. GC of one version does not know the
// container that another version is creating, and would remove it.
func TestGCDoesNotRunBesideAVerbOfAnotherVersion(t *testing.T) {
	inWorld(t, func(w *world) {
		const older, newer = "/opt/svc/bin/svc-ipsec", "/opt/svc/bin/svc-ipsec-2"
		w.install(newer, ipsec, "2.0.0", true)
		w.start()
		b := vpn("p1", "vpn1", "c1")
		conf := b.Conf(spec.Network, plugin.CNIType(newer))
		w.on(spec.Check, "vpn1", behaviour{takes: 10 * time.Second})
		var verb sync.WaitGroup
		verb.Go(func() {
			e, _ := executables{w.current}.Select(ipsec)
			_, _ = w.current.r.worker.adder.verbs.runFor(
				w.t.Context(), b.Container, spec.Check, e, "", must(json.Marshal(conf)),
			)
		})
		w.after(time.Second)
		w.current.r.CollectGarbage(w.t.Context())
		if o, n := w.collected(older), w.collected(newer); o != 0 || n != 0 {
			t.Errorf("GC of the older ran %d times, of the newer %d times", o, n)
		}
		verb.Wait()
		w.current.r.CollectGarbage(w.t.Context())
		if o, n := w.collected(older), w.collected(newer); o != 1 || n != 1 {
			t.Errorf("afterwards: GC of the older ran %d times, of the newer %d times", o, n)
		}
	})
}
