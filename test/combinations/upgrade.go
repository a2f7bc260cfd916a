package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// An oddity is a configuration that the version before accepts and that a later one may refuse for new connections. keys replace those of the
// only connection of each side.
type oddity struct {
	name        string
	left, right object
	carries     bool // the version before carries packets with it
}

// oddities lists them.
var oddities = []oddity{
	{name: "everything behind the left one", carries: true,
		left:  object{"localCidrs": []string{"0.0.0.0/0"}, "peerCidrs": []string{"10.2.0.0/24"}},
		right: object{"localCidrs": []string{"10.2.0.0/24"}, "peerCidrs": []string{"0.0.0.0/0"}}},
	{name: "every address of IPv6 behind the left one",
		left:  object{"localCidrs": []string{"::/0"}, "peerCidrs": []string{"fd02::/64"}},
		right: object{"localCidrs": []string{"fd02::/64"}, "peerCidrs": []string{"::/0"}}},
	{name: "the same network on both sides",
		left:  object{"localCidrs": []string{"10.77.0.0/24"}, "peerCidrs": []string{"10.77.0.0/24"}},
		right: object{"localCidrs": []string{"10.77.0.0/24"}, "peerCidrs": []string{"10.77.0.0/24"}}},
	{name: "0.0.0.0/0 on both sides",
		left:  object{"localCidrs": []string{"0.0.0.0/0"}, "peerCidrs": []string{"0.0.0.0/0"}},
		right: object{"localCidrs": []string{"0.0.0.0/0"}, "peerCidrs": []string{"0.0.0.0/0"}}},
	{name: "peer networks that no packet has as its destination",
		left:  object{"peerCidrs": []string{"0.0.0.0/32", "255.255.255.255/32", "240.0.0.0/4", "10.2.0.0/24"}},
		right: object{"localCidrs": []string{"0.0.0.0/32", "255.255.255.255/32", "240.0.0.0/4", "10.2.0.0/24"}}},
	{name: "lifetimes of a second",
		left:  object{"ipsecPolicy": object{"lifetime": 1}, "ikePolicy": object{"lifetime": 1}},
		right: object{"ipsecPolicy": object{"lifetime": 1}, "ikePolicy": object{"lifetime": 1}}},
	{name: "a long time-out of dead peer detection", carries: true,
		left:  object{"dpd": object{"interval": 30, "timeout": 1200}},
		right: object{"dpd": object{"interval": 30, "timeout": 1200}}},
}

// usual is the row whose connection an oddity changes.
var usual = row{
	ike: ike{"v2", "main", "aes-256", "sha256", "group14"}, child: child{"esp", "aes-256", "sha256", "group14", "tunnel"},
	outer: 4, inner: []int{4}, networks: [2]int{1, 1}, ids: "address", way: "left",
}

// A state is what must outlive the upgrade.
type state struct {
	daemons string
	loaded  map[string]string // by side: the connections
	spis    []string          // of both sides
}

func (w *world) state() (s state, err error) {
	s = state{daemons: w.daemons(), loaded: map[string]string{}}
	for _, side := range sides {
		if s.loaded[side.name], err = w.loaded(side); err != nil {
			return s, err
		}
		k, err := w.look(side)
		if err != nil {
			return s, err
		}
		for _, a := range k.states {
			s.spis = append(s.spis, fmt.Sprintf("%s %#x", side.name, a.Spi))
		}
	}
	slices.Sort(s.spis)
	return s, nil
}

// loaded lists the names of the connections that a daemon has.
func (w *world) loaded(s side) (string, error) {
	status, err := command("", "ipsec", "whack", "--ctlsocket", "/run/svc-ipsec/vpn-"+s.name+"/run/pluto.ctl", "--status")
	if err != nil {
		return "", err
	}
	names := map[string]bool{}
	for line := range strings.Lines(status) {
		if _, after, ok := strings.Cut(line, `"c`); ok {
			name, _, _ := strings.Cut(after, `"`)
			names["c"+name] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), " "), nil
}

// upgrades makes the containers of each edit, and then of each oddity, with the version before, and runs CHECK and ADD of today's version on
// them: no daemon ends, no association goes, and what carried packets still does.
func (w *world) upgrades(previous string, edits []edit, r *run) {
	today := w.executable
	for _, e := range edits {
		w.upgrade(upgradeOf{
			name:      fmt.Sprintf("%d rows like %s", len(e.rows), e.rows[0].name()),
			configure: func(s side) object { return e.configuration(s, "the key of an upgrade") },
			settled: func() []string {
				return slices.Concat(w.installed(e)...)
			},
			carries: func() (faults []string) {
				for i, row := range e.rows {
					faults = append(faults, w.carries(row, i)...)
				}
				return faults
			},
			// Two that ask at once may make associations anew by themselves (carries).
			keeps: e.rows[0].way != "both",
			nat:   e.rows[0].way == "nat", previous: previous, today: today,
		}, r)
	}
	for _, o := range oddities {
		e := edit{rows: []row{usual}}
		u := upgradeOf{name: o.name, previous: previous, today: today, configure: func(s side) object {
			configuration := e.configuration(s, "the key of an upgrade")
			keys := map[string]object{"left": o.left, "right": o.right}[s.name]
			maps.Copy(configuration["connections"].([]object)[0], keys)
			return configuration
		}}
		if o.carries {
			u.carries = func() []string {
				pair := usual.pairs(0)[0]
				w.pings++
				if err := ping("site-left", inside(pair.left), inside(pair.right), w.pings, 2*time.Second); err != nil {
					return []string{err.Error()}
				}
				return nil
			}
		}
		w.upgrade(u, r)
	}
}

type upgradeOf struct {
	name            string
	configure       func(side) object
	settled         func() []string // nil: nothing is waited for
	carries         func() []string // nil: not tried
	keeps           bool            // the associations stay; else only the daemons and the connections do
	nat             bool
	previous, today string
}

func (w *world) upgrade(u upgradeOf, r *run) {
	var faults []string
	note := func(what string, err error) {
		if err != nil {
			faults = append(faults, what+": "+err.Error())
		}
	}
	if u.nat != w.nat {
		note("NAT", setNAT(u.nat))
		w.nat = u.nat
	}
	w.executable = u.previous
	results := map[string]json.RawMessage{}
	for _, s := range []side{sides[1], sides[0]} {
		output, err := w.output("ADD", s, u.configure(s), nil)
		for tries := 1; err != nil && tries < 3; tries++ { // its deadlines are too short for a machine that is busy
			fmt.Printf("# once more: %v\n", err)
			output, err = w.output("ADD", s, u.configure(s), nil)
		}
		note("ADD of the version before", err)
		results[s.name] = output
	}
	if u.settled != nil && len(faults) == 0 {
		faults = append(faults, untilNone(u.settled)...)
	}
	if u.carries != nil && len(faults) == 0 {
		faults = append(faults, untilNone(u.carries)...)
	}
	var before state
	if len(faults) == 0 {
		var err error
		before, err = w.state()
		note("state before", err)
	}

	w.executable = u.today
	for _, s := range sides {
		if len(faults) > 0 {
			break
		}
		_, err := w.output("CHECK", s, u.configure(s), results[s.name])
		note("CHECK of today's version", err)
		_, err = w.output("ADD", s, u.configure(s), nil)
		note("ADD of today's version", err)
	}
	if len(faults) == 0 {
		after, err := w.state()
		note("state after", err)
		if before.daemons != after.daemons {
			faults = append(faults, fmt.Sprintf("daemons were %s, are %s", before.daemons, after.daemons))
		}
		if !maps.Equal(before.loaded, after.loaded) {
			faults = append(faults, fmt.Sprintf("connections were %v, are %v", before.loaded, after.loaded))
		}
		if u.keeps && !slices.Equal(before.spis, after.spis) {
			faults = append(faults, fmt.Sprintf("associations were %v, are %v", before.spis, after.spis))
		}
		if u.carries != nil {
			faults = append(faults, u.carries()...)
		}
	}
	faults = append(faults, w.take()...)
	r.tell("upgraded: "+u.name, faults)
	if len(faults) > 0 {
		w.explain(0)
	}
}

// untilNone asks for faults until there are none, settleWithin at most.
func untilNone(of func() []string) []string {
	for deadline := time.Now().Add(settleWithin); ; time.Sleep(100 * time.Millisecond) {
		faults := of()
		if len(faults) == 0 || time.Now().After(deadline) {
			return faults
		}
	}
}
