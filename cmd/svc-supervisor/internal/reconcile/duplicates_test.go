package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func addressed(port spec.PortID, name spec.Name, id spec.ContainerID, external string) spec.Binding {
	return changed(vpn(port, name, id), func(b *spec.Binding) {
		b.Configuration = json.RawMessage(
			fmt.Sprintf(`{"externalIps":[%q],"externalMac":"AC:CA:BA:00:00:01"}`, external),
		)
	})
}

func reasonOf(w *world, name spec.Name) string {
	for _, row := range w.current.r.Rows() {
		if row.Name == name {
			return row.Status + " " + row.Reason
		}
	}
	return "no row"
}

func TestDuplicateAddressesAreShownAndPublished(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(
			addressed("p1", "vpn1", "c1", "192.0.2.1"),
			addressed("p2", "vpn2", "c2", "192.0.2.1"),
			addressed("p3", "vpn3", "c3", "192.0.2.3"),
		)
		w.start()
		w.untilSettled(time.Second)
		const addresses = "external IP 192.0.2.1, MAC ac:ca:ba:00:00:01 and port address 169.254.0.1 are also those of "
		expect := func(when string, want ...string) {
			t.Helper()
			w.after(2 * time.Second)
			for i, note := range want {
				id, name := spec.ContainerID(fmt.Sprint("c", i+1)), spec.Name(fmt.Sprint("vpn", i+1))
				if got := w.status(id); got.Code != spec.Running || got.Message != note {
					t.Errorf("%s: published of %s: %s %q, want %q", when, id, got.Code, got.Message, note)
				}
				if got := reasonOf(w, name); got != "RUNNING "+note {
					t.Errorf("%s: row of %s: %q", when, name, got)
				}
			}
		}
		first := addresses + "vpn2 (port p2): packets reach one of the two"
		second := addresses + "vpn1 (port p1): packets reach one of the two"
		expect("two of them", first, second, "")
		w.forgetCalls()
		w.bind(addressed("p3", "vpn3", "c3", "192.0.2.1"))
		expect("a third one", first, second, second)
		w.setHost(1, -1, "no Host object")
		w.setHost(1, -1, "")
		expect("the host was unread for a moment", first, second, second)
		w.unbind("p1")
		w.bind(addressed("p3", "vpn3", "c3", "192.0.2.3"))
		w.after(time.Minute)
		if got := w.status("c2"); got.Code != spec.Running || got.Message != "" {
			t.Errorf("the container without a duplicate: %+v", got)
		}
		if got := w.verbs("vpn2"); got != "" && got != "CHECK" {
			t.Errorf("verbs of a container that was not edited: %s", got)
		}
	})
}

func TestNoteOfABindingIsShownAndPublished(t *testing.T) {
	inWorld(t, func(w *world) {
		noted := changed(vpn("p1", "vpn1", "c1"), func(b *spec.Binding) {
			b.Note = "Router r: no port has the external IP"
		})
		w.bind(noted)
		w.start()
		w.untilSettled(time.Second)
		if got := w.status("c1"); got.Code != spec.Running || got.Message != noted.Note {
			t.Errorf("published %+v", got)
		}
		if got := reasonOf(w, "vpn1"); got != "RUNNING "+noted.Note {
			t.Errorf("row %q", got)
		}
		w.bind(vpn("p1", "vpn1", "c1"))
		w.after(time.Second)
		if got := w.status("c1"); got.Code != spec.Running || got.Message != "" {
			t.Errorf("published without the note: %+v", got)
		}
		if got := w.verbs("vpn1"); got != "ADD" {
			t.Errorf("verbs: %s", got)
		}
	})
}

func TestDuplicatesAreFoundAgainAfterAnEdit(t *testing.T) {
	d := new(duplicates)
	one, two := addressed("p1", "vpn1", "c1", "192.0.2.1"), addressed("p2", "vpn2", "c2", "192.0.2.2")
	find := func(bindings ...spec.Binding) (ports []spec.PortID) {
		for _, b := range bindings {
			if d.find(bindings)[b.PortID] != "" {
				ports = append(ports, b.PortID)
			}
		}
		return ports
	}
	if got := find(one, two); got != nil {
		t.Error(got)
	}
	two.Configuration = json.RawMessage(`{"externalIps":["192.0.2.1"],"externalMac":"ac:ca:ba:00:00:01"}`)
	if got := find(one, two); !slices.Equal(got, []spec.PortID{"p1", "p2"}) {
		t.Error(got)
	}
	two.Port.Addresses = []string{"169.254.0.5/30"}
	if got := find(one, two); got != nil {
		t.Error(got)
	}
	two.Port.Addresses = one.Port.Addresses
	two.Reading = spec.Unknown
	if got := find(one, two); got != nil {
		t.Error(got)
	}
}

// TestDuplicatesAfterChangesEqualAFreshSearch changes a set of bindings at random.
func TestDuplicatesAfterChangesEqualAFreshSearch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var d duplicates
	set := map[spec.PortID]spec.Binding{}
	for step := range 2000 {
		port := spec.PortID(fmt.Sprint("p", random.IntN(12)))
		if random.IntN(3) == 0 {
			delete(set, port)
		} else {
			set[port] = addressed(port, "vpn-"+spec.Name(port), "c", fmt.Sprint("192.0.2.", random.IntN(8)))
		}
		bindings := slices.Collect(maps.Values(set))
		if got, want := d.find(bindings), new(duplicates).find(bindings); !maps.Equal(got, want) {
			t.Fatalf("step %d: %v, want %v", step, got, want)
		}
	}
}
