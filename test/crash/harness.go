package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

const (
	settleTimeout = 2 * time.Minute
	hitTimeout    = time.Minute
	maxTries      = 5
)

// harness runs the jobs in one sandbox.
type harness struct {
	*lab.Lab
	slots      []*slot
	untouched  *slot             // a container that is desired all the time and that no job uses
	pid        int               // of the daemon of untouched
	references map[string]string // descriptions of containers without any kill, by type and shape
	hits       map[string]int    // the number of kills by point
	failed     map[string]int
	leaks      int
	lost       int
}

// desired returns the bindings in the NSDB.
func (h *harness) desired() []lab.Binding {
	var list []lab.Binding
	for _, s := range append(slices.Clone(h.slots), h.untouched) {
		if s.shape != absent {
			list = append(list, s.desired())
		}
	}
	return list
}

// awaitDesired waits until the host has the desired state, at most for settleTimeout. The error describes the
// difference.
func (h *harness) awaitDesired() error {
	desired := h.desired()
	return lab.Within(settleTimeout, func() error {
		for _, w := range desired {
			if err := lab.CheckSettled(w); err != nil {
				return err
			}
		}
		return lab.CheckObserved(desired)
	})
}

// open starts the supervisor and stores the descriptions of reference containers.
func (h *harness) open() error {
	if err := h.Start(); err != nil {
		return err
	}
	h.untouched = &slot{name: "untouched", kind: "IPSEC"}
	h.references = map[string]string{}
	samples := []*slot{
		{name: "sample-1", kind: "IPSEC", shape: lab.B}, {name: "sample-2", kind: "LAZY", shape: lab.A},
		{name: "sample-3", kind: "LAZY", shape: lab.B},
	}
	slots := h.slots
	h.slots = append(slices.Clone(slots), samples...)
	for _, s := range samples {
		if err := s.setDesired(s.shape); err != nil {
			return err
		}
	}
	if err := h.untouched.setDesired(lab.A); err != nil {
		return err
	}
	if err := h.awaitDesired(); err != nil {
		return fmt.Errorf("reference containers: %w", err)
	}
	for _, s := range append(samples, h.untouched) {
		description, err := lab.Describe(s.desired())
		if err != nil {
			return err
		}
		h.references[s.kind+string(s.shape)] = description
		if s.kind == "IPSEC" && !strings.Contains(description, "one-0-0 oriented") {
			return fmt.Errorf("a reference container has no conn: %s", description)
		}
	}
	for _, s := range samples {
		if err := s.setDesired(absent); err != nil {
			return err
		}
	}
	var err error
	if h.pid, err = lab.MainPID(h.untouched.name); err != nil {
		return err
	}
	err = h.awaitDesired()
	h.slots = slots
	return err
}
