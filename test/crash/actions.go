package main

import "github.com/svc-supervisor/svc-supervisor/test/crash/lab"

// absent is the shape of a container that is not bound.
const absent lab.Shape = ""

// action is what the NSDB asks for when the process is killed: from one shape to another.
type action struct {
	kind     string // service type
	from, to lab.Shape
	anyShape bool // from either
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

func (a *action) starts(shape lab.Shape) bool {
	return shape == a.from || a.anyShape && shape != absent
}

// mind is what the NSDB asks for afterwards.
type mind struct {
	name string
	// turns are the shapes that are wanted one after the other: the first when the process is dead, before the supervisor
	// is started again; the second once the supervisor has seen the first.
	turns func(a *action) []lab.Shape
}

// keeps reports whether what is wanted stays what the action was to bring about.
func (m mind) keeps(a *action) bool {
	turns := m.turns(a)
	return len(turns) == 1 && turns[0] == a.to
}

var minds = []mind{
	{"keeps its mind", func(a *action) []lab.Shape { return []lab.Shape{a.to} }},
	{"edits", func(a *action) []lab.Shape {
		if a.to == absent {
			return []lab.Shape{lab.B}
		}
		return []lab.Shape{a.to.Other()}
	}},
	{"turns back", func(a *action) []lab.Shape {
		if a.to == absent {
			return []lab.Shape{lab.A}
		}
		return []lab.Shape{absent}
	}},
	{"turns back twice", func(a *action) []lab.Shape {
		if a.to == absent {
			return []lab.Shape{lab.A, absent}
		}
		return []lab.Shape{absent, a.to}
	}},
}

// slot is a container of the lab, bound or not.
type slot struct {
	name  string
	kind  string
	shape lab.Shape
}

func (s *slot) wanted() lab.Wanted { return lab.Ours(s.name, s.kind, s.shape) }

// want makes the NSDB ask for a shape.
func (s *slot) want(shape lab.Shape) error {
	s.shape = shape
	if shape == absent {
		return lab.Unbind(s.wanted().Port)
	}
	return lab.Bind(s.wanted())
}

// job is one point to be hit once, by one kind of kill.
type job struct {
	point
	kills string // supervisor, svc-ipsec, both, launcher or by-hand
	mind  mind
	tries int
	slot  *slot
	held  *hold

	pid    int    // of the container's daemon, where it must stay
	serial string // of the conn that must stay
	verbs  int    // how many there were when the action began
	cut    int    // and at the kill
	phase  string // of the record at the kill
}
