package reconcile

import (
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// duplicates finds bindings whose addresses another binding of the host has. It remembers the endpoints of each binding, because
// to read them out of the configurations of all bindings at each change would be expensive.
type duplicates struct {
	known map[spec.PortID]endpoints
}

// endpoints are those of a binding, and what they were read from. A configuration in the same memory is the same one: it is never
// written to.
type endpoints struct {
	configuration *byte
	length        int
	addresses     string
	endpoints     []spec.Endpoint
}

// find returns a note for each binding that shares an endpoint with another one, which is named: the first of the others.
func (d *duplicates) find(bindings []spec.Binding) map[spec.PortID]string {
	known := make(map[spec.PortID]endpoints, len(bindings))
	users := map[spec.Endpoint][]*spec.Binding{}
	for i := range bindings {
		b := &bindings[i]
		if b.Reading != spec.Whole || len(b.Configuration) == 0 || len(b.Port.Addresses) == 0 {
			continue
		}
		addresses := fmt.Sprint(b.Port.Addresses)
		e := d.known[b.PortID]
		if e.configuration != &b.Configuration[0] || e.length != len(b.Configuration) || e.addresses != addresses {
			e = endpoints{&b.Configuration[0], len(b.Configuration), addresses, spec.Endpoints(b.Port, b.Configuration)}
		}
		known[b.PortID] = e
		for _, endpoint := range e.endpoints {
			users[endpoint] = append(users[endpoint], b)
		}
	}
	d.known = known
	var notes map[spec.PortID]string
	for i := range bindings {
		b := &bindings[i]
		for _, endpoint := range known[b.PortID].endpoints {
			of := users[endpoint]
			if len(of) < 2 {
				continue
			}
			other := of[0]
			if other == b {
				other = of[1]
			}
			if notes == nil {
				notes = map[spec.PortID]string{}
			}
			notes[b.PortID] = fmt.Sprintf("%s are also those of %s (port %s): packets reach one of the two", endpoint,
				other.Container.InterfaceName, other.PortID)
			break
		}
	}
	return notes
}
