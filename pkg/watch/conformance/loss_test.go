package conformance

import (
	"strconv"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// burst writes 1,000 changes as fast as the backend accepts them. Each reported set must be one that was written, no
// set may be reported twice, and they must be reported in order.
func burst(t *testing.T, k *Kind) {
	const changes = 1000
	backend := k.Fresh(t)
	backend.Write(t, baseObjects())
	o := observe(t, backend)
	o.waitForSet("before", baseObjects())
	mark := o.count()
	start := time.Now()
	var all objects
	for n := 1; n <= changes; n++ {
		all = baseObjects().with(objects{bindingKey(1, 1): bindingObject(1, 1, edit{"mac": mac(n)})})
		backend.Write(t, all)
	}
	written := time.Since(start)
	o.waitForSet("the last change", all)
	t.Logf("%d changes written in %v, reported %v later in %d sets",
		changes, written, time.Since(start)-written, o.count()-mark)
	if sets := o.count() - mark; sets > changes {
		t.Errorf("%d sets of %d changes", sets, changes)
	}
	before := 0
	for n, set := range o.since(mark) {
		b, other := find(set, port(1)), find(set, port(2))
		if set.Unread != "" || b == nil || other == nil ||
			b.Reading != spec.Complete || other.Reading != spec.Complete {
			t.Fatalf("set %d: %+v", n, set)
		}
		now, err := strconv.ParseInt(b.Port.MAC[9:11]+b.Port.MAC[12:14]+b.Port.MAC[15:], 16, 0)
		if err != nil || int(now) <= before {
			t.Fatalf("set %d: %s after %d: reported twice or out of order", n, b.Port.MAC, before)
		}
		before = int(now)
	}
}

// outages causes each failure that a kind supports. Another client continues to write where it can.
func outages(t *testing.T, k *Kind) {
	backend, faults := k.WithFaults(t)
	before := baseObjects()
	backend.Write(t, before)
	o := observe(t, backend)
	o.waitForSet("before", before)
	host := spec.HostStatus{Weight: 3, Quota: 48, Count: 2}
	p := o.runPublisher()
	p.SetHost(host)
	p.Set(container(1), running(1))
	waitForStatus(t, backend, 1, running(1))
	d := outageDuration(t)
	for n, r := range []struct {
		name       string
		begin, end func()
		meanwhile  bool // other clients can write
	}{
		{"this host is cut off", faults.Cut, faults.Restore, true},
		{"this host is cut off again", faults.Cut, faults.Restore, true},
		{"no server runs", faults.Stop, faults.Start, false},
		{"every server hangs", faults.Freeze, faults.Thaw, false},
		{"the servers are restarted one after the other", faults.Roll, func() {}, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			if r.begin == nil {
				t.Skip("not in this kind")
			}
			o.T = t
			mark := o.count()
			r.begin()
			after := before.with(containerObjects(1, 10+n)).with(objects{
				hostKey(1):          hostObject(1, edit{"containerWeight": 10 + n}),
				bindingKey(1, 1):    bindingObject(1, 1, edit{"mac": mac(0x10000 + n)}),
				configurationKey(1): configurationObject(1, "secret "+r.name),
			})
			if n > 0 { // remove the container of the previous round
				after = after.with(objects{
					bindingKey(1, 9+n): "", containerKey(9 + n): "", configurationKey(9 + n): "",
				})
			}
			if r.meanwhile {
				backend.Write(t, after)
			}
			status := running(1)
			status.Message = "set during the outage: " + r.name
			p.Set(container(1), status)
			time.Sleep(d) // the outage; no event marks its end
			for at, set := range o.since(mark) {
				if set.Unread == "" && r.meanwhile {
					t.Errorf("set %d was reported during the outage: %+v", at, set)
				}
			}
			r.end()
			restored := time.Now()
			waitForStatus(t, backend, 1, status)
			await(t, "the host's status", statusDeadline, func() bool {
				got, stamp := backend.HostStatus(t, thisHost)
				return stamp != "" && got == host
			})
			t.Logf("statuses written %v after the outage", time.Since(restored))
			if !r.meanwhile {
				backend.Write(t, after)
			}
			o.waitForSet("what changed", after)
			t.Logf("reported %v after the outage, in %d sets", time.Since(restored), o.count()-mark)
			o.onlyKnownStates(mark, before, after)
			for at, set := range o.since(mark) {
				if b := find(set, port(2)); set.Unread == "" && (b == nil || b.Reading != spec.Complete) {
					t.Errorf("set %d does not have the unchanged container: %+v", at, b)
				}
			}
			before = after
		})
	}
}
