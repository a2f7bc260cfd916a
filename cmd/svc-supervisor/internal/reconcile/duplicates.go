package reconcile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// duplicates finds bindings that share addresses with another binding of the host. It keeps the endpoints of each
// binding and the number of bindings per endpoint. So a change of the desired set costs one comparison for each
// unchanged binding.
type duplicates struct {
	last   []addresses // of the bindings of the last call, sorted by port
	before []addresses // of the call before, whose memory is reused
	users  map[spec.Endpoint]int
	shared int // number of endpoints that several bindings have
}

// addresses holds the endpoints of a binding and the values that they were computed from. A configuration at the same
// memory address is unchanged, because configurations are never modified in place.
type addresses struct {
	port          spec.PortID
	configuration *byte
	length        int
	of            []string
	endpoints     []spec.Endpoint
}

func (a *addresses) readFrom(b *spec.Binding) bool {
	return a.configuration == &b.Configuration[0] && a.length == len(b.Configuration) &&
		slices.Equal(a.of, b.Port.Addresses)
}

// find returns a note for each binding that shares an endpoint with other bindings. The note names the first of the
// others.
func (d *duplicates) find(bindings []spec.Binding) map[spec.PortID]string {
	byPort := func(a, b spec.Binding) int { return cmp.Compare(a.PortID, b.PortID) }
	if !slices.IsSortedFunc(bindings, byPort) {
		bindings = slices.SortedStableFunc(slices.Values(bindings), byPort)
	}
	d.update(bindings)
	if d.shared == 0 {
		return nil
	}
	users := map[spec.Endpoint][]spec.PortID{}
	for _, a := range d.last {
		for _, endpoint := range a.endpoints {
			if d.users[endpoint] > 1 {
				users[endpoint] = append(users[endpoint], a.port)
			}
		}
	}
	names := map[spec.PortID]spec.Name{}
	for i := range bindings {
		names[bindings[i].PortID] = bindings[i].Container.InterfaceName
	}
	notes := map[spec.PortID]string{}
	for _, a := range d.last {
		for _, endpoint := range a.endpoints {
			if of := users[endpoint]; len(of) > 1 {
				other := of[0]
				if other == a.port {
					other = of[1]
				}
				notes[a.port] = fmt.Sprintf("%s are also those of %s (port %s): packets reach one of the two",
					endpoint, names[other], other)
				break
			}
		}
	}
	return notes
}

// update replaces the bindings by the given ones, which must be sorted by port.
func (d *duplicates) update(bindings []spec.Binding) {
	if d.users == nil {
		d.users = map[spec.Endpoint]int{}
	}
	next, last := d.before[:0], d.last
	for i := range bindings {
		b := &bindings[i]
		if b.Reading != spec.Complete || len(b.Configuration) == 0 || len(b.Port.Addresses) == 0 {
			continue
		}
		for len(last) > 0 && last[0].port < b.PortID {
			d.count(last[0].endpoints, -1)
			last = last[1:]
		}
		if len(last) > 0 && last[0].port == b.PortID && last[0].readFrom(b) {
			next, last = append(next, last[0]), last[1:]
			continue
		}
		a := addresses{
			port:          b.PortID,
			configuration: &b.Configuration[0],
			length:        len(b.Configuration),
			of:            b.Port.Addresses,
			endpoints:     spec.Endpoints(b.Port, b.Configuration),
		}
		d.count(a.endpoints, 1)
		next = append(next, a)
	}
	for _, gone := range last {
		d.count(gone.endpoints, -1)
	}
	d.last, d.before = next, d.last
}

// count adds change to the number of bindings of each endpoint.
func (d *duplicates) count(endpoints []spec.Endpoint, change int) {
	for _, endpoint := range endpoints {
		was, is := d.users[endpoint], d.users[endpoint]+change
		switch {
		case was < 2 && is >= 2:
			d.shared++
		case was >= 2 && is < 2:
			d.shared--
		}
		if is == 0 {
			delete(d.users, endpoint)
		} else {
			d.users[endpoint] = is
		}
	}
}
