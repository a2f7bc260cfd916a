package reconcile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func only(types ...spec.ServiceType) func(*Settings) {
	return func(s *Settings) { s.Types = types }
}

func balancer(port spec.PortID, name spec.Name, id spec.ContainerID) spec.Binding {
	return changed(vpn(port, name, id), func(b *spec.Binding) { b.Container.ServiceType = haproxy })
}

func TestBindingOfAnUnlistedTypeIsIgnored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.uninstall("/opt/svc/bin/svc-haproxy")
		w.bind(vpn("p1", "vpn1", "c1"), balancer("p2", "hpx1", "c2"))
		w.mu.Lock()
		w.published["c2"] = spec.ContainerStatus{Code: spec.Running, Message: "another service's"}
		w.mu.Unlock()
		w.start(only(ipsec))
		w.after(2 * time.Minute)
		if got := w.status("c1").Code; got != spec.Running {
			t.Errorf("the listed type: %s", w.history("c1"))
		}
		if rows := w.current.r.Rows(); len(rows) != 1 || rows[0].Name != "vpn1" {
			t.Errorf("rows %+v", rows)
		}
		if host := w.hostStatus(); host.Count != 1 {
			t.Errorf("count %d", host.Count)
		}
		w.unbind("p2")
		w.after(2 * time.Minute)
		if got := w.history("c2"); got != "" || w.status("c2").Message != "another service's" {
			t.Errorf("published of the other type: %q", got)
		}
		if got := w.verbs("hpx1"); got != "" {
			t.Errorf("verbs of the other type: %s", got)
		}
	})
}

func TestContainerOfATypeNoLongerListedIsKept(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"), balancer("p2", "hpx1", "c2"))
		w.start()
		w.untilSettled(time.Second)
		w.current.stop()
		w.forgetCalls()
		w.start(only(haproxy))
		w.after(3 * time.Minute)
		if got := w.verbs("vpn1"); strings.Contains(got, "DEL") || strings.Contains(got, "ADD") {
			t.Errorf("verbs: %s", got)
		}
		at := slices.IndexFunc(w.current.r.Rows(), func(r Row) bool { return r.Name == "vpn1" })
		want := "type IPSEC is not one of --types (HAPROXY): the container is kept"
		if at < 0 || w.current.r.Rows()[at].Status != "UNKNOWN" || w.current.r.Rows()[at].Reason != want {
			t.Errorf("rows %+v", w.current.r.Rows())
		}
		if !w.current.r.Serves("c1", ipsec) {
			t.Error("Serves is false for a container with a record")
		}
		w.unbind("p1")
		w.untilSettled(time.Minute)
		if got := w.verbs("vpn1"); !strings.HasSuffix(got, "DEL") {
			t.Errorf("verbs after its binding was removed: %s", got)
		}
	})
}

func TestContainerThatGetsAnUnlistedTypeIsRemoved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bind(vpn("p1", "vpn1", "c1"))
		w.start(only(ipsec))
		w.untilSettled(time.Second)
		w.bind(balancer("p1", "vpn1", "c1"))
		w.after(10 * time.Second)
		if got := w.verbs("vpn1"); got != "ADD DEL" {
			t.Errorf("verbs: %s", got)
		}
	})
}

func TestServedTypes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.uninstall("/opt/svc/bin/svc-haproxy")
		w.start()
		for serviceType, want := range map[spec.ServiceType]bool{ipsec: true, haproxy: false, "": false} {
			if got := w.current.r.Serves("c", serviceType); got != want {
				t.Errorf("without a list, type %q: %v", serviceType, got)
			}
		}
		w.current.stop()
		w.start(only(haproxy))
		for serviceType, want := range map[spec.ServiceType]bool{ipsec: false, haproxy: true, "": false} {
			if got := w.current.r.Serves("c", serviceType); got != want {
				t.Errorf("with a list, type %q: %v", serviceType, got)
			}
		}
	})
}
