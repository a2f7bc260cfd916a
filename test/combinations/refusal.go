package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// refusal is a connection that must be refused: the keys in which it differs from a valid one, and the expected
// message.
type refusal struct {
	keys    object
	message string
}

func readRefusals(path string) (all []refusal, err error) {
	err = lines(path, 2, func(cells []string) error {
		var r refusal
		r.message = cells[1]
		all = append(all, r)
		return json.Unmarshal([]byte(cells[0]), &all[len(all)-1].keys)
	})
	return all, err
}

// tryRefusals adds all refused connections to the left container in one edit, beside the tunnels of an edit. The health
// must have the expected message for each of them. The associations of the tunnels must not change, and pings must
// still pass.
func (w *testbed) tryRefusals(e edit, refusals []refusal, run *run) {
	before, faults := w.spis(), []string(nil)
	configuration := e.configuration(sides[0], w.key())
	connections := configuration["connections"].([]object)
	first := len(connections)
	for i, r := range refusals {
		c := object{"id": fmt.Sprintf("r%d", i), "psk": "another key", "peerAddress": "198.51.100.9",
			"localCidrs": []string{"10.1.0.0/24"}, "peerCidrs": []string{"10.99.0.0/24"}}
		maps.Copy(c, r.keys)
		connections = append(connections, c)
	}
	configuration["connections"] = connections
	health, err := w.verb("ADD", sides[0], configuration)
	switch {
	case err != nil:
		faults = append(faults, err.Error())
	case len(health.Connections) != len(connections):
		faults = append(faults,
			fmt.Sprintf("the health has %d connections, want %d", len(health.Connections), len(connections)))
	default:
		for i, r := range refusals {
			place := fmt.Sprintf("connections[%d]", first+i)
			got := strings.Replace(health.Connections[first+i].Reason, place, "connections[N]", 1)
			if got != r.message {
				keys, _ := json.Marshal(r.keys)
				faults = append(faults, fmt.Sprintf("%s: %q, want %q", keys, got, r.message))
			}
		}
	}
	run.report(fmt.Sprintf("%d invalid connections are refused with the expected reasons", len(refusals)), faults)
	faults = nil
	if after := w.spis(); !slices.Equal(before, after) || len(before) == 0 {
		faults = append(faults, fmt.Sprintf("associations were %q, are %q", before, after))
	}
	for i, r := range e.rows {
		faults = append(faults, w.checkTraffic(r, i)...)
	}
	run.report("the valid connections are not affected", faults)
}

// spis returns the SPIs of the left side's associations, sorted.
func (w *testbed) spis() (all []string) {
	k, err := w.xfrm(sides[0])
	if err != nil {
		return nil
	}
	for _, s := range k.states {
		all = append(all, fmt.Sprintf("%#x", s.Spi))
	}
	slices.Sort(all)
	return all
}
