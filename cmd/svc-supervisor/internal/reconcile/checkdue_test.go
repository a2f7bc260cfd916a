package reconcile

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// TestCHECKThatCanFindNothingNewIsPostponed counts the CHECKs within an hour at the default interval of a minute.
func TestCHECKThatCanFindNothingNewIsPostponed(t *testing.T) {
	type count struct{ least, most int }
	var (
		rare  = count{4, 8} // one CHECK per ten intervals, and a few after a connection went down
		tries = count{25, 35}
		often = count{50, 70}
	)
	receive := func(w *world) { w.change(func() { w.packets["vpn1"] = observe.Packets{In: w.packets["vpn1"].In + 1} }) }
	send := func(w *world) {
		w.change(func() { w.packets["vpn1"] = observe.Packets{Out: w.packets["vpn1"].Out + 1} })
	}
	nothing := func(*world) {}
	rows := []struct {
		sentence string
		prepare  func(*world)
		health   *spec.Health
		minutely func(*world)
		want     count
	}{
		{"no packet, all connections up", (*world).offerAllIPSEC, healthOf(spec.Active), nothing, rare},
		{"packets, all connections up", (*world).offerAllIPSEC, healthOf(spec.Active, spec.Active), receive, rare},
		{"no packet, a connection down", (*world).offerAllIPSEC, healthOf(spec.Active, spec.Down), nothing, rare},
		{"packets go out only, a connection down", (*world).offerAllIPSEC, healthOf(spec.Down), send, tries},
		{
			"packets come in, a connection down", (*world).offerAllIPSEC, healthOf(spec.Active, spec.Down), receive,
			often,
		},
		{
			"the executable does not ask for network events",
			func(w *world) { w.offerXFRM("/opt/svc/bin/svc-ipsec") },
			healthOf(spec.Active),
			nothing,
			often,
		},
		{"the subscription fails", func(w *world) {
			w.offerAllIPSEC()
			w.change(func() { w.faults.events = errors.New("no such protocol") })
		}, healthOf(spec.Active), nothing, often},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				row.prepare(w)
				w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(row.health)))})
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.after(10 * time.Minute)
				before := len(w.times(spec.Check, "vpn1"))
				for range 60 {
					row.minutely(w)
					w.after(time.Minute)
				}
				if n := len(w.times(spec.Check, "vpn1")) - before; n < row.want.least || n > row.want.most {
					t.Errorf("%d CHECKs, want %d to %d", n, row.want.least, row.want.most)
				}
			})
		})
	}
}

func (w *world) offerAllIPSEC() { w.offerAll("/opt/svc/bin/svc-ipsec") }

// TestFaultIsFoundWhileCHECKIsPostponed causes each kind of fault in a container that had no event for an hour.
func TestFaultIsFoundWhileCHECKIsPostponed(t *testing.T) {
	rows := []struct {
		sentence string
		do       func(*world)
	}{
		{"an event leads to CHECK", func(w *world) { w.event("vpn1") }},
		{
			"the namespace is removed without an event",
			func(w *world) { w.change(func() { delete(w.namespaces, "vpn1") }) },
		},
		{"the unit is gone", func(w *world) { w.systemd("svc-vpn1.service", "") }},
		{"changes of the host's links were lost", func(w *world) { w.change(func() { w.eventsLost = time.Now() }) }},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.offerAllIPSEC()
				w.on(spec.Check, "vpn1", behaviour{prints: string(must(json.Marshal(healthOf(spec.Active))))})
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.untilSettled(time.Second)
				w.after(time.Hour)
				before := len(w.verbCalls())
				row.do(w)
				w.until(70*time.Second, "a verb runs", func() bool { return len(w.verbCalls()) > before })
				w.untilSettled(time.Minute)
			})
		})
	}
}
