package reconcile

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func TestLeftovers(t *testing.T) {
	ours := func(name spec.Name) spec.Owner {
		return spec.Owner{Network: spec.Network, Name: name, ContainerID: "c9"}
	}
	put := func(w *world) {
		w.namespaces["ns9"] = tagged{owner: ours("ns9")}
		w.links["link9"] = tagged{owner: ours("link9")}
		w.units["svc-unit9.service"] = &process{
			unit.Unit{Name: "svc-unit9.service", ActiveState: "active"},
			ours("unit9"),
		}
		w.units["svc-role9:x.service"] = &process{
			unit.Unit{Name: "svc-role9:x.service", ActiveState: "active"},
			ours("role9"),
		}
	}
	t.Run("leftovers are removed once every binding was read", func(t *testing.T) {
		inWorld(t, func(w *world) {
			put(w)
			unread := spec.Binding{PortID: "p2", Reading: spec.Unread, Fault: "bindings/host-1/p2: file is incomplete"}
			w.bindings["p2"] = unread
			w.bind(vpn("p1", "ns9", "c1"))
			w.start()
			w.after(5 * time.Minute)
			if len(w.trace) != 0 {
				t.Errorf("while a binding is unread: %q", w.trace)
			}
			w.unbind("p2")
			w.untilSettled(time.Second)
		})
	})
	t.Run("leftovers are removed although their name is wanted", func(t *testing.T) {
		inWorld(t, func(w *world) {
			put(w)
			w.bind(vpn("p1", "ns9", "c1"), vpn("p2", "link9", "c2"), vpn("p3", "unit9", "c3"))
			w.start()
			w.untilSettled(time.Second)
		})
	})
	t.Run("a user id without other resources is released", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.users["user9"] = true
			w.start()
			w.untilSettled(time.Second)
		})
	})
	t.Run("a user id is released after a crash of ADD and the loss of the state directory", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.start()
			w.untilSettled(time.Second)
			w.current.crashAfter(2)
			w.bind(vpn("p1", "vpn1", "c1"))
			w.after(time.Second)
			if !w.users["vpn1"] || len(w.namespaces) > 0 {
				t.Fatalf("the crash was at another point: %q", w.trace)
			}
			w.current.stop()
			w.unbind("p1")
			clear(w.disk)
			w.start()
			w.untilSettled(time.Second)
		})
	})
	t.Run("a unit whose owner is unknown delays ADD", func(t *testing.T) {
		inWorld(t, func(w *world) {
			put(w)
			w.change(func() { w.faults.owner = errors.New("no reply") })
			w.bind(vpn("p3", "unit9", "c3"))
			w.start()
			w.after(time.Minute)
			if got := w.verbs("unit9"); got != "" {
				t.Errorf("%q ran", got)
			}
			w.change(func() { w.faults.owner = nil })
			w.untilSettled(2 * time.Minute)
		})
	})
}

func TestForeignResourcesAreNeverChanged(t *testing.T) {
	byHand := spec.Owner{Network: spec.NetworkByHand, Name: "vpn1", ContainerID: "c9"}
	rows := []struct {
		sentence string
		put      func(*world)
		free     func(*world)
		reason   string
	}{
		{
			"a namespace without a tag",
			func(w *world) { w.namespaces["vpn1"] = tagged{} },
			func(w *world) { w.change(func() { delete(w.namespaces, "vpn1") }) },
			"namespace vpn1 exists and is not ours",
		},
		{"an interface without a tag", func(w *world) { w.links["vpn1"] = tagged{} },
			func(w *world) { w.change(func() { delete(w.links, "vpn1") }) }, "interface vpn1 exists and is not ours"},
		{"a container of svc-supervisor exec", func(w *world) {
			w.namespaces["vpn1"], w.links["vpn1"] = tagged{owner: byHand}, tagged{owner: byHand}
			w.units["svc-vpn1.service"] = &process{unit.Unit{Name: "svc-vpn1.service", ActiveState: "active"}, byHand}
		}, func(w *world) {
			w.change(func() {
				delete(w.namespaces, "vpn1")
				delete(w.links, "vpn1")
				delete(w.units, "svc-vpn1.service")
			})
		}, "is not ours"},
		{"a unit without a tag", func(w *world) {
			w.units["svc-vpn1.service"] = &process{unit: unit.Unit{Name: "svc-vpn1.service", ActiveState: "active"}}
		}, func(w *world) {
			w.change(func() { delete(w.units, "svc-vpn1.service") })
		}, "unit svc-vpn1.service exists and is not ours"},
		{"a unit without a tag that failed", func(w *world) {
			w.units["svc-vpn1.service"] = &process{unit: unit.Unit{Name: "svc-vpn1.service", ActiveState: "failed"}}
		}, func(w *world) {
			w.change(func() { delete(w.units, "svc-vpn1.service") })
		}, "unit svc-vpn1.service exists and is not ours"},
		{
			"a tag of another name",
			func(w *world) {
				w.namespaces["vpn1"] = tagged{owner: spec.Owner{Network: spec.Network, Name: "vpn2", ContainerID: "c9"}}
			},
			func(w *world) { w.change(func() { delete(w.namespaces, "vpn1") }) },
			"namespace vpn1 exists and is not ours",
		},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			inWorld(t, func(w *world) {
				row.put(w)
				w.bind(vpn("p1", "vpn1", "c1"))
				w.start()
				w.after(5 * time.Minute)
				if len(w.trace) != 0 {
					t.Errorf("effects: %q", w.trace)
				}
				if got := w.heldReason("vpn1"); !strings.Contains(got, row.reason) {
					t.Errorf("held because %q", got)
				}
				if got := w.history("c1"); !strings.HasPrefix(got, "ERROR") || strings.Contains(got, ",") {
					t.Errorf("published %q", got)
				}
				row.free(w)
				w.untilSettled(time.Minute) // no event signals that the name is free
			})
		})
	}
}

func TestForeignUnitIsNotStoppedWithTheContainer(t *testing.T) {
	inWorld(t, func(w *world) {
		owner := spec.Owner{Network: spec.Network, Name: "vpn1", ContainerID: "c1"}
		other := &process{unit: unit.Unit{Name: "svc-vpn1.service", ActiveState: "active"}}
		w.on(spec.Add, "vpn1", behaviour{noUnits: true})
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.change(func() {
			w.units["svc-vpn1.service"] = other
			w.units["svc-vpn1:ours.service"] = &process{
				unit.Unit{Name: "svc-vpn1:ours.service", ActiveState: "active"},
				owner,
			}
		})
		w.unbind("p1")
		w.untilSettled(time.Second)
		if w.units["svc-vpn1.service"] != other || w.namespaces["vpn1"] != (tagged{}) {
			t.Errorf("the foreign unit was stopped, or the namespace is left: %v", w.namespaces)
		}
		w.bind(vpn("p1", "vpn1", "c1"))
		w.after(time.Minute)
		if got := w.heldReason("vpn1"); got != "unit svc-vpn1.service exists and is not ours" {
			t.Errorf("held because %q", got)
		}
	})
}

func TestForeignUnitIsNotStoppedAfterAReboot(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start()
		w.untilSettled(time.Second)
		w.reboot()
		w.units["svc-vpn1:other.service"] = &process{
			unit.Unit{Name: "svc-vpn1:other.service", ActiveState: "active"},
			spec.Owner{},
		}
		w.current.stop()
		w.start()
		w.untilSettled(2 * time.Second)
		if w.units["svc-vpn1:other.service"] == nil {
			t.Error("the foreign unit was stopped")
		}
	})
}
