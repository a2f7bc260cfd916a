package conformance

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// burst writes 1,000 changes as fast as the world takes them. Each set is one that stood, none is heard twice, and they
// come in their order.
func burst(t *testing.T, k *Kind) {
	const changes = 1000
	w := k.Fresh(t)
	w.Write(t, base())
	h := hear(t, w)
	h.hears("before", base())
	mark := h.count()
	start := time.Now()
	var all objects
	for n := 1; n <= changes; n++ {
		all = base().with(objects{bindingKey(1, 1): bindingObject(1, 1, edit{"mac": mac(n)})})
		w.Write(t, all)
	}
	written := time.Since(start)
	h.hears("the last word", all)
	t.Logf("%d changes written in %v, heard %v later in %d sets", changes, written, time.Since(start)-written, h.count()-mark)
	if sets := h.count() - mark; sets > changes {
		t.Errorf("%d sets of %d changes", sets, changes)
	}
	before := 0
	for n, set := range h.since(mark) {
		b, witness := find(set, port(1)), find(set, port(2))
		if set.Unread != "" || b == nil || witness == nil || b.Reading != spec.Whole || witness.Reading != spec.Whole {
			t.Fatalf("set %d: %+v", n, set)
		}
		now, err := strconv.ParseInt(b.Port.MAC[9:11]+b.Port.MAC[12:14]+b.Port.MAC[15:], 16, 0)
		if err != nil || int(now) <= before {
			t.Fatalf("set %d: %s after %d: heard twice, or out of order", n, b.Port.MAC, before)
		}
		before = int(now)
	}
}

// losses takes the servers away in each way that there is, while somebody else goes on writing where that can be.
func losses(t *testing.T, k *Kind) {
	w, faults := k.Faulty(t)
	before := base()
	w.Write(t, before)
	h := hear(t, w)
	h.hears("before", before)
	host := spec.HostStatus{Weight: 3, Quota: 48, Count: 2}
	h.publish("publish the host", func(ctx context.Context) error { return h.PublishHost(ctx, host) })
	h.publishContainer(1, running(1))
	d := long(t)
	for n, r := range []struct {
		name       string
		lose, back func()
		meanwhile  bool // others can write
	}{
		{"this host is cut off", faults.Cut, faults.Mend, true},
		{"and again", faults.Cut, faults.Mend, true},
		{"no server is there", faults.Stop, faults.Start, false},
		{"every server hangs", faults.Freeze, faults.Thaw, false},
		{"every server is started anew in turn", faults.Roll, func() {}, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			if r.lose == nil {
				t.Skip("not in this kind")
			}
			h.T = t
			mark := h.count()
			r.lose()
			after := before.with(whole(1, 10+n)).with(objects{
				hostKey(1):          hostObject(1, edit{"containerWeight": 10 + n}),
				bindingKey(1, 1):    bindingObject(1, 1, edit{"mac": mac(0x10000 + n)}),
				configurationKey(1): configurationObject(1, "secret "+r.name),
			})
			if n > 0 { // what the round before brought goes
				after = after.with(objects{bindingKey(1, 9+n): "", containerKey(9 + n): "", configurationKey(9 + n): ""})
			}
			if r.meanwhile {
				w.Write(t, after)
			}
			time.Sleep(d) // the loss itself: nothing tells its end but the clock
			for at, set := range h.since(mark) {
				if set.Unread == "" && r.meanwhile {
					t.Errorf("set %d came through the loss: %+v", at, set)
				}
			}
			r.back()
			returned := time.Now()
			stands(t, w, 1, running(1))
			await(t, "the host's status", soon, func() bool { got, stamp := w.HostStatus(t, ours); return stamp != "" && got == host })
			t.Logf("statuses stand %v after the return", time.Since(returned))
			if !r.meanwhile {
				w.Write(t, after)
			}
			h.hears("what changed", after)
			t.Logf("heard %v after the return, in %d sets", time.Since(returned), h.count()-mark)
			h.between(mark, before, after)
			for at, set := range h.since(mark) {
				if b := find(set, port(2)); set.Unread == "" && (b == nil || b.Reading != spec.Whole) {
					t.Errorf("set %d has not the container that nothing happened to: %+v", at, b)
				}
			}
			before = after
		})
	}
}
