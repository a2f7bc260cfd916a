package main

import "github.com/svc-supervisor/svc-supervisor/test/crash/lab"

// absent is the shape of a container that is not bound.
const absent lab.Shape = ""

// action is a change of the desired state during which a process is killed: from one shape of a container to another.
type action struct {
	kind     string // service type
	from, to lab.Shape
	anyShape bool // the action may start from either shape
}

var actions = map[string]*action{
	"ADD":     {kind: "IPSEC", from: absent, to: lab.A},
	"FRESH":   {kind: "IPSEC", from: absent, to: lab.A},
	"EDIT":    {kind: "IPSEC", from: lab.A, to: lab.B},
	"DEL":     {kind: "IPSEC", from: lab.A, to: absent, anyShape: true},
	"SWEEP":   {kind: "LAZY", from: lab.A, to: absent, anyShape: true},
	"REPLACE": {kind: "LAZY", from: lab.A, to: lab.B},
	"RESTART": {kind: "IPSEC", from: lab.A, to: lab.A},
	"HAND":    {kind: "IPSEC", from: absent, to: lab.A},
	"HANDDEL": {kind: "IPSEC", from: lab.A, to: absent},
}

// starts reports whether the action can start from this shape.
func (a *action) starts(shape lab.Shape) bool {
	return shape == a.from || a.anyShape && shape != absent
}

// change is a change of the desired state after the kill.
type change struct {
	name string
	// states returns the shapes that are desired one after the other. The first is set when the process is dead, before
	// the supervisor is started again. The second, if there is one, is set when the supervisor has seen the first.
	states func(a *action) []lab.Shape
}

// isNone reports whether the desired state is still the one of the action.
func (m change) isNone(a *action) bool {
	states := m.states(a)
	return len(states) == 1 && states[0] == a.to
}

var changes = []change{
	{"unchanged", func(a *action) []lab.Shape { return []lab.Shape{a.to} }},
	{"edited", func(a *action) []lab.Shape {
		if a.to == absent {
			return []lab.Shape{lab.B}
		}
		return []lab.Shape{a.to.Other()}
	}},
	{"reverted", func(a *action) []lab.Shape {
		if a.to == absent {
			return []lab.Shape{lab.A}
		}
		return []lab.Shape{absent}
	}},
	{"reverted twice", func(a *action) []lab.Shape {
		if a.to == absent {
			return []lab.Shape{lab.A, absent}
		}
		return []lab.Shape{absent, a.to}
	}},
}

// slot is a container of the lab. It has the shape absent while it is not bound.
type slot struct {
	name  string
	kind  string
	shape lab.Shape
}

func (s *slot) desired() lab.Binding { return lab.NewBinding(s.name, s.kind, s.shape) }

// setDesired writes the desired shape to the NSDB.
func (s *slot) setDesired(shape lab.Shape) error {
	s.shape = shape
	if shape == absent {
		return lab.Unbind(s.desired().Port)
	}
	return lab.Bind(s.desired())
}

// job is one point at which a process is to be killed, with one kind of kill and one change afterwards.
type job struct {
	point
	kills  string // supervisor, svc-ipsec, both, launcher or by-hand
	change change
	tries  int
	slot   *slot
	held   *heldProcess

	pid    int    // of the container's daemon if the action must not restart it, else 0
	serial string // of the conn that the action must not replace
	verbs  int    // the number of verbs that had run when the action began
	cut    int    // the number of verbs that had run at the kill
	phase  string // the phase of the record at the kill
}
