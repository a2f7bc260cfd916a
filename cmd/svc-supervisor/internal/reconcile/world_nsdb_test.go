package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// vpn returns a complete binding of an IPSEC container.
func vpn(port spec.PortID, name spec.Name, id spec.ContainerID) spec.Binding {
	return spec.Binding{
		PortID: port,
		Container: spec.Container{
			PortID: port, HostID: "host-1", InterfaceName: name, ContainerID: id, ServiceType: ipsec,
			GroupID: "group-1", ConfigurationID: "configuration-1",
		},
		Port:          spec.Port{Addresses: []string{"169.254.0.1/30"}},
		Configuration: json.RawMessage(`{"edition":1}`),
	}
}

func changed(b spec.Binding, change func(*spec.Binding)) spec.Binding {
	change(&b)
	return b
}

func edited(b spec.Binding, edition int) spec.Binding {
	b.Configuration = json.RawMessage(fmt.Sprintf(`{"edition":%d}`, edition))
	return b
}

// bind adds bindings to the NSDB and replaces those of the same ports.
func (w *world) bind(bindings ...spec.Binding) {
	w.mu.Lock()
	for _, b := range bindings {
		w.bindings[b.PortID] = b
	}
	w.mu.Unlock()
	w.sendDesired()
}

func (w *world) unbind(ports ...spec.PortID) {
	w.mu.Lock()
	for _, port := range ports {
		delete(w.bindings, port)
	}
	w.mu.Unlock()
	w.sendDesired()
}

// setHost changes the host object. unread is the reason why it cannot be read, "" if it can.
func (w *world) setHost(weight, limit int, unread string) {
	w.mu.Lock()
	w.host.Weight, w.host.Limit, w.hostUnread = weight, limit, unread
	w.mu.Unlock()
	w.sendDesired()
}

func (w *world) sendDesired() {
	if w.current != nil {
		w.current.r.SetDesired(w.t.Context(), w.desired())
	}
}

func (w *world) desired() spec.Desired {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hostUnread != "" {
		return spec.Desired{Unread: w.hostUnread, Host: spec.Host{ID: w.host.ID}}
	}
	desired := spec.Desired{Host: w.host}
	for _, port := range slices.Sorted(maps.Keys(w.bindings)) {
		desired.Bindings = append(desired.Bindings, w.bindings[port])
	}
	return desired
}
