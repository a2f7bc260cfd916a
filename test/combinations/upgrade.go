package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// unusualConfiguration is a configuration that the previous version accepts and that later versions may refuse for new
// connections. left and right replace keys of the only connection of each side.
type unusualConfiguration struct {
	name        string
	left, right object
	traffic     bool // whether packets pass through its tunnel with the previous version
}

var unusualConfigurations = []unusualConfiguration{
	{name: "all IPv4 addresses behind the left side", traffic: true,
		left:  object{"localCidrs": []string{"0.0.0.0/0"}, "peerCidrs": []string{"10.2.0.0/24"}},
		right: object{"localCidrs": []string{"10.2.0.0/24"}, "peerCidrs": []string{"0.0.0.0/0"}}},
	{name: "all IPv6 addresses behind the left side",
		left:  object{"localCidrs": []string{"::/0"}, "peerCidrs": []string{"fd02::/64"}},
		right: object{"localCidrs": []string{"fd02::/64"}, "peerCidrs": []string{"::/0"}}},
	{name: "the same network on both sides",
		left:  object{"localCidrs": []string{"10.77.0.0/24"}, "peerCidrs": []string{"10.77.0.0/24"}},
		right: object{"localCidrs": []string{"10.77.0.0/24"}, "peerCidrs": []string{"10.77.0.0/24"}}},
	{name: "0.0.0.0/0 on both sides",
		left:  object{"localCidrs": []string{"0.0.0.0/0"}, "peerCidrs": []string{"0.0.0.0/0"}},
		right: object{"localCidrs": []string{"0.0.0.0/0"}, "peerCidrs": []string{"0.0.0.0/0"}}},
	{name: "peer networks that cannot be a destination",
		left:  object{"peerCidrs": []string{"0.0.0.0/32", "255.255.255.255/32", "240.0.0.0/4", "10.2.0.0/24"}},
		right: object{"localCidrs": []string{"0.0.0.0/32", "255.255.255.255/32", "240.0.0.0/4", "10.2.0.0/24"}}},
	{name: "lifetimes of one second",
		left:  object{"ipsecPolicy": object{"lifetime": 1}, "ikePolicy": object{"lifetime": 1}},
		right: object{"ipsecPolicy": object{"lifetime": 1}, "ikePolicy": object{"lifetime": 1}}},
	{name: "a long timeout of dead peer detection", traffic: true,
		left:  object{"dpd": object{"interval": 30, "timeout": 1200}},
		right: object{"dpd": object{"interval": 30, "timeout": 1200}}},
}

// baseRow is the row of the connection in which an unusualConfiguration replaces keys.
var baseRow = row{
	ike:   ike{"v2", "main", "aes-256", "sha256", "group14"},
	child: child{"esp", "aes-256", "sha256", "group14", "tunnel"},
	outer: 4, inner: []int{4}, networks: [2]int{1, 1}, ids: "address", way: "left",
}

// state is the state that an upgrade must not change.
type state struct {
	daemons string            // process ids and invocation ids
	loaded  map[string]string // the connections by side
	spis    []string          // the SPIs of both sides
}

func (w *testbed) state() (s state, err error) {
	s = state{daemons: w.daemons(), loaded: map[string]string{}}
	for _, side := range sides {
		if s.loaded[side.name], err = w.loaded(side); err != nil {
			return s, err
		}
		k, err := w.xfrm(side)
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

// loaded returns the names of the connections that the daemon of a side has loaded.
func (w *testbed) loaded(s side) (string, error) {
	status, err := command("", "ipsec", "whack", "--ctlsocket", "/run/svc-ipsec/vpn-"+s.name+"/run/pluto.ctl",
		"--status")
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

// upgrades makes the containers of each edit, and then of each unusual configuration, with the previous version of
// svc-ipsec. It then runs CHECK and ADD of the current version. No daemon may be restarted, no association may be
// removed, and traffic that passed before must still pass.
func (w *testbed) upgrades(previous string, edits []edit, r *run) {
	current := w.executable
	for _, e := range edits {
		w.upgrade(upgrade{
			name:      fmt.Sprintf("%d rows like %s", len(e.rows), e.rows[0].name()),
			configure: func(s side) object { return e.configuration(s, "the key of an upgrade") },
			settled: func() []string {
				return slices.Concat(w.wrongAssociations(e)...)
			},
			traffic: func() (faults []string) {
				for i, row := range e.rows {
					faults = append(faults, w.checkTrafficEventually(row, i)...)
				}
				return faults
			},
			// If both sides initiate, they may replace associations by themselves (see checkTrafficEventually).
			keeps: e.rows[0].way != "both",
			nat:   e.rows[0].way == "nat", previous: previous, current: current,
		}, r)
	}
	for _, o := range unusualConfigurations {
		e := edit{rows: []row{baseRow}}
		u := upgrade{name: o.name, previous: previous, current: current, configure: func(s side) object {
			configuration := e.configuration(s, "the key of an upgrade")
			keys := map[string]object{"left": o.left, "right": o.right}[s.name]
			maps.Copy(configuration["connections"].([]object)[0], keys)
			return configuration
		}}
		if o.traffic {
			u.traffic = func() []string {
				pair := baseRow.pairs(0)[0]
				w.pings++
				if err := ping("site-left", hostIn(pair.left), hostIn(pair.right), w.pings, 2*time.Second); err != nil {
					return []string{err.Error()}
				}
				return nil
			}
		}
		w.upgrade(u, r)
	}
}

// upgrade is one upgrade of the two containers.
type upgrade struct {
	name              string
	configure         func(side) object
	settled           func() []string // returns the missing associations; nil: do not wait for associations
	traffic           func() []string // returns the faults of the traffic; nil: do not check traffic
	keeps             bool            // whether the upgrade must keep the associations too
	nat               bool
	previous, current string // paths of svc-ipsec
}

// prepareTries is how often the containers are made with the previous version until their tunnel is up. That version
// does not always bring it up on a busy machine, and what is tested comes after that.
const prepareTries = 3

// upgrade makes the containers with the previous version, runs CHECK and ADD of the current one, and compares the
// states.
func (w *testbed) upgrade(u upgrade, r *run) {
	results, faults := w.prepare(u)
	for tries := 1; len(faults) > 0 && tries < prepareTries; tries++ {
		fmt.Printf("# retry: the previous version: %s\n", strings.Join(faults, "; "))
		w.executable = u.current
		w.removeContainers()
		results, faults = w.prepare(u)
	}
	w.executable = u.current
	if len(faults) == 0 {
		faults = w.upgradePrepared(u, results)
	}
	faults = append(faults, w.removeContainers()...)
	r.report("upgrade: "+u.name, faults)
	if len(faults) > 0 {
		w.printJournal(0)
	}
}

// prepare makes the containers with the previous version and waits for their tunnel. It returns the results of ADD.
func (w *testbed) prepare(u upgrade) (results map[string]json.RawMessage, faults []string) {
	if u.nat != w.nat {
		if err := setNAT(u.nat); err != nil {
			return nil, []string{"NAT: " + err.Error()}
		}
		w.nat = u.nat
	}
	w.executable = u.previous
	results = map[string]json.RawMessage{}
	for _, s := range []side{sides[1], sides[0]} {
		output, err := w.output("ADD", s, u.configure(s), nil)
		if err != nil {
			return nil, []string{"ADD of the previous version: " + err.Error()}
		}
		results[s.name] = output
	}
	if u.settled != nil {
		faults = untilNone(u.settled)
	}
	if u.traffic != nil && len(faults) == 0 {
		faults = untilNone(u.traffic)
	}
	return results, faults
}

// upgradePrepared runs CHECK and ADD of the current version on both containers. It returns what has changed by that.
func (w *testbed) upgradePrepared(u upgrade, results map[string]json.RawMessage) (faults []string) {
	before, err := w.state()
	if err != nil {
		return []string{"state before: " + err.Error()}
	}
	for _, s := range sides {
		if _, err := w.output("CHECK", s, u.configure(s), results[s.name]); err != nil {
			return []string{"CHECK of the current version: " + err.Error()}
		}
		if _, err := w.output("ADD", s, u.configure(s), nil); err != nil {
			return []string{"ADD of the current version: " + err.Error()}
		}
	}
	after, err := w.state()
	if err != nil {
		return []string{"state after: " + err.Error()}
	}
	if before.daemons != after.daemons {
		faults = append(faults, fmt.Sprintf("daemons were %s, are %s", before.daemons, after.daemons))
	}
	if !maps.Equal(before.loaded, after.loaded) {
		faults = append(faults, fmt.Sprintf("connections were %v, are %v", before.loaded, after.loaded))
	}
	if u.keeps && !slices.Equal(before.spis, after.spis) {
		faults = append(faults, fmt.Sprintf("associations were %v, are %v", before.spis, after.spis))
	}
	if u.traffic != nil {
		faults = append(faults, u.traffic()...)
	}
	return faults
}

// untilNone calls find until it returns no faults, at most for settleTimeout, and returns the last faults.
func untilNone(find func() []string) []string {
	for deadline := time.Now().Add(settleTimeout); ; time.Sleep(100 * time.Millisecond) {
		faults := find()
		if len(faults) == 0 || time.Now().After(deadline) {
			return faults
		}
	}
}
