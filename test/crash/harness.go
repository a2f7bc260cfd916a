package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

const (
	settleWithin = 25 * time.Second
	hitWithin    = 20 * time.Second
	maxTries     = 5
)

// harness is one sandbox at work.
type harness struct {
	*lab.Lab
	slots     []*slot
	bystander *slot             // wanted all the time, and never touched
	pid       int               // of its daemon
	portraits map[string]string // of containers that nothing happened to, by type and shape
	hits      map[string]int    // by point
	failed    map[string]int
	leaks     int
	lost      int
}

// wanted lists what the NSDB asks for.
func (h *harness) wanted() []lab.Wanted {
	var list []lab.Wanted
	for _, s := range append(slices.Clone(h.slots), h.bystander) {
		if s.shape != absent {
			list = append(list, s.wanted())
		}
	}
	return list
}

// settle waits until the world is what is wanted.
func (h *harness) settle() error {
	wanted := h.wanted()
	return lab.Within(settleWithin, func() error {
		for _, w := range wanted {
			if err := lab.Settled(w); err != nil {
				return err
			}
		}
		return lab.Same(wanted)
	})
}

// open starts the supervisor and takes the portraits of containers that nothing happened to.
func (h *harness) open() error {
	if err := h.Start(); err != nil {
		return err
	}
	h.bystander = &slot{name: "bystander", kind: "IPSEC"}
	h.portraits = map[string]string{}
	sitters := []*slot{{name: "sitter-1", kind: "IPSEC", shape: lab.B}, {name: "sitter-2", kind: "LAZY", shape: lab.A}, {name: "sitter-3", kind: "LAZY", shape: lab.B}}
	slots := h.slots
	h.slots = append(slices.Clone(slots), sitters...)
	for _, s := range sitters {
		if err := s.want(s.shape); err != nil {
			return err
		}
	}
	if err := h.bystander.want(lab.A); err != nil {
		return err
	}
	if err := h.settle(); err != nil {
		return fmt.Errorf("containers that nothing happened to: %w", err)
	}
	for _, s := range append(sitters, h.bystander) {
		portrait, err := lab.Portrait(s.wanted())
		if err != nil {
			return err
		}
		h.portraits[s.kind+string(s.shape)] = portrait
		if s.kind == "IPSEC" && !strings.Contains(portrait, "one-0-0 oriented") {
			return fmt.Errorf("portrait of %s: no conn", portrait)
		}
	}
	for _, s := range sitters {
		if err := s.want(absent); err != nil {
			return err
		}
	}
	var err error
	if h.pid, err = lab.MainPID(h.bystander.name); err != nil {
		return err
	}
	err = h.settle()
	h.slots = slots
	return err
}
