package conformance

import (
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// row is one change that somebody else makes. Container 2 is its witness: nothing must be heard of that.
type row struct {
	name   string
	before objects // over base
	after  objects // over before
	bridge bool    // needs one
}

// try runs rows, each in a world of its own.
func try(t *testing.T, k *Kind, rows []row) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if r.bridge && !k.Bridge {
				t.Skip("bindings have no bridge in this kind")
			}
			if k.Parallel {
				t.Parallel()
			}
			w := k.Fresh(t)
			before := base().with(r.before)
			w.Write(t, before)
			h := hear(t, w)
			h.hears("before", before)
			mark := h.count()
			after := before.with(r.after)
			w.Write(t, after)
			h.hears("after", after)
			h.between(mark, before, after)
			w.Write(t, before)
			h.hears("and back", before)
		})
	}
}

// between holds that every set from a mark on is made of bindings that stood before or after, and of none that never did.
// A set in which the host is unread says nothing.
func (h *hearer) between(mark int, before, after objects) {
	h.Helper()
	states := []spec.Desired{wanted(before), wanted(after)}
	for n, set := range h.since(mark) {
		if set.Unread != "" {
			continue
		}
		for i := range set.Bindings {
			b := &set.Bindings[i]
			known := b.Reading != spec.Whole // on the way something may be missing that is not written yet
			for _, state := range states {
				same := find(state, b.PortID)
				known = known || same != nil && differ(b, same) == ""
			}
			if !known && !mixed(b, states) {
				h.Errorf("set %d: port %s was never so: %+v", mark+n, b.PortID, b.Container)
			}
		}
		for _, state := range states[0].Bindings {
			if find(set, state.PortID) == nil && find(states[1], state.PortID) != nil {
				h.Errorf("set %d: port %s is missing, which it never was", mark+n, state.PortID)
			}
		}
	}
}

// mixed says whether a binding takes each part from one of the states: a kind without transactions may show one while the
// objects are written one after the other.
func mixed(b *spec.Binding, states []spec.Desired) bool {
	var name, configuration, port bool
	for _, state := range states {
		same := find(state, b.PortID)
		if same == nil {
			continue
		}
		name = name || same.Container.InterfaceName == b.Container.InterfaceName
		configuration = configuration || sameJSON(same.Configuration, b.Configuration)
		port = port || same.Port.MAC == b.Port.MAC
	}
	return name && configuration && port
}

func find(d spec.Desired, port spec.PortID) *spec.Binding {
	for i := range d.Bindings {
		if d.Bindings[i].PortID == port {
			return &d.Bindings[i]
		}
	}
	return nil
}

// drives has the rows of docs/nsdb.md, "What drives a container".
func drives(t *testing.T, k *Kind) {
	try(t, k, []row{
		{name: "a binding appears with a container", after: whole(1, 3)},
		{name: "an existing binding gets a container",
			before: objects{bindingKey(1, 3): bindingObject(1, 3, edit{"containerId": nil}), containerKey(3): containerObject(3, edit{"portId": nil}), configurationKey(3): configurationObject(3, "secret")},
			after:  objects{bindingKey(1, 3): bindingObject(1, 3), containerKey(3): containerObject(3)}},
		{name: "a binding goes", after: objects{bindingKey(1, 1): "", containerKey(1): containerObject(1, edit{"portId": nil})}},
		{name: "a binding goes, and all it named", after: objects{bindingKey(1, 1): "", containerKey(1): "", configurationKey(1): ""}},
		{name: "a binding loses its container", after: objects{bindingKey(1, 1): bindingObject(1, 1, edit{"containerId": nil}), containerKey(1): containerObject(1, edit{"portId": nil})}},
		{name: "a binding moves to another host", after: objects{bindingKey(1, 1): "", bindingKey(2, 1): bindingObject(2, 1)}},
		{name: "another interface name", after: objects{bindingKey(1, 1): bindingObject(1, 1, edit{"interfaceName": "vpn-other"})}},
		{name: "another container",
			before: objects{containerKey(3): containerObject(3, edit{"portId": nil, "configurationId": id("configuration", 1)})},
			after: objects{
				bindingKey(1, 1): bindingObject(1, 1, edit{"containerId": id("container", 3)}),
				containerKey(1):  containerObject(1, edit{"portId": nil}),
				containerKey(3):  containerObject(3, edit{"portId": id("port", 1), "configurationId": id("configuration", 1)}),
			}},
		{name: "another configuration's content", after: objects{configurationKey(1): configurationObject(1, "another secret")}},
		{name: "the port's address", after: objects{bindingKey(1, 1): bindingObject(1, 1, edit{"addresses": []string{"169.254.77.1/30"}})}},
		{name: "the port's MAC", after: objects{bindingKey(1, 1): bindingObject(1, 1, edit{"mac": "ca:08:ff:00:00:01"})}},
		{name: "the port's bridge", after: objects{bindingKey(1, 1): bindingObject(1, 1, edit{"bridge": "br-left"})}, bridge: true},
		{name: "the group", after: objects{containerKey(1): containerObject(1, edit{"groupId": id("group", 2)})}},
		{name: "the host's weight", after: objects{hostKey(1): hostObject(1, edit{"containerWeight": 0})}},
		{name: "the host's limit", after: objects{hostKey(1): hostObject(1, edit{"containerLimit": 1})}},
		{name: "a plain port appears, and is ignored; a container after it is not",
			after: objects{bindingKey(1, 4): bindingObject(1, 4, edit{"containerId": nil, "interfaceName": "tap4"}), hostKey(1): hostObject(1, edit{"containerWeight": 7})}},
		{name: "another service type", after: objects{ // whose configuration no kind looks into
			containerKey(1):     containerObject(1, edit{"serviceType": "OTHER"}),
			configurationKey(1): object(edit{"id": id("configuration", 1)}),
		}},
	})
}

// faulty has what cannot be read: its own container is held, and the witness is not.
func faulty(t *testing.T, k *Kind) {
	try(t, k, []row{
		{name: "no container", after: objects{containerKey(1): ""}},
		{name: "no configuration", after: objects{configurationKey(1): ""}},
		{name: "a container without a group", after: objects{containerKey(1): containerObject(1, edit{"groupId": nil})}},
		{name: "a container without a configuration", after: objects{containerKey(1): containerObject(1, edit{"configurationId": nil})}},
		{name: "a container without a type", after: objects{containerKey(1): containerObject(1, edit{"serviceType": nil})}},
	})
	for _, r := range []struct {
		name, key string
		known     bool // the name is known
	}{
		{"a binding that is none", bindingKey(1, 1), false},
		{"a container that is none", containerKey(1), true},
		{"a configuration that is none", configurationKey(1), true},
	} {
		t.Run(r.name, func(t *testing.T) {
			if k.Parallel {
				t.Parallel()
			}
			w := k.Fresh(t)
			w.Write(t, base())
			h := hear(t, w)
			h.hears("before", base())
			w.Spoil(t, r.key)
			h.until("the fault", func(d spec.Desired) bool {
				b, witness := find(d, port(1)), find(d, port(2))
				if d.Unread != "" || b == nil || witness == nil || witness.Reading != spec.Whole || b.Reading == spec.Whole {
					return false
				}
				if strings.Contains(b.Fault, "\n") || b.Fault == "" || strings.Contains(b.Fault, "hunter2") {
					t.Errorf("the fault is %q", b.Fault)
				}
				return r.known == (b.Container.InterfaceName == "vpn-1") && (b.Reading == spec.Unread) == !r.known
			}, nil)
			w.Write(t, base())
			h.hears("well again", base())
		})
	}
}

// hostObjects has the host's own object: without it nothing is known.
func hostObjects(t *testing.T, k *Kind) {
	w := k.Fresh(t)
	w.Write(t, base())
	h := hear(t, w)
	h.hears("before", base())
	unread := func(d spec.Desired) bool { return d.Unread != "" && d.Host.ID == ours && len(d.Bindings) == 0 }
	w.Write(t, base().without(hostKey(1)))
	h.until("the host is deleted", unread, nil)
	changed := base().with(whole(1, 3)).with(objects{bindingKey(1, 2): "", containerKey(2): containerObject(2, edit{"portId": nil})})
	w.Write(t, changed.without(hostKey(1)))
	w.Write(t, changed)
	h.hears("it is back, and what changed meanwhile is seen", changed)
	w.Spoil(t, hostKey(1))
	h.until("the host cannot be read", unread, nil)
	w.Write(t, base())
	h.hears("it is well again", base())
	h.between(0, base(), changed)
}

// silent holds that nothing is heard of others: a change of our own comes after, and is the only set.
func silent(t *testing.T, k *Kind) {
	w := k.Fresh(t)
	w.Write(t, base())
	h := hear(t, w)
	h.hears("before", base())
	mark := h.count()
	all := base()
	for n := 10; n < 30; n++ {
		all = all.with(whole(2, n))
		w.Write(t, all)
	}
	all = all.with(objects{hostKey(2): hostObject(2, edit{"containerWeight": 9}), configurationKey(9): configurationObject(9, "x")})
	w.Write(t, all)
	all = all.with(objects{hostKey(1): hostObject(1, edit{"containerWeight": 9})})
	w.Write(t, all)
	h.hears("our own change", all)
	if sets := h.since(mark); len(sets) != 1 {
		t.Errorf("%d sets were heard of one change", len(sets))
	}
}

// missingPrefix begins without anything at all.
func missingPrefix(t *testing.T, k *Kind) {
	w := k.Fresh(t)
	h := hear(t, w)
	h.until("nothing is there", func(d spec.Desired) bool { return d.Unread != "" && !strings.Contains(d.Unread, "\n") }, nil)
	w.Write(t, base())
	h.hears("it appears", base())
	for n, set := range h.since(0) {
		if set.Unread == "" && len(set.Bindings) != 2 {
			t.Errorf("set %d has %d bindings: half of what is written is not all", n, len(set.Bindings))
		}
	}
}

// settings has those of all hosts under those of ours.
func settings(t *testing.T, k *Kind) {
	w := k.Fresh(t)
	w.Write(t, base())
	h := hear(t, w)
	h.hears("none", base())
	all := base()
	ofAll, ofOurs, ofTheirs := "config/default", "config/hosts/"+string(ours), "config/hosts/"+string(theirs)
	for _, r := range []struct {
		name    string
		changes objects
	}{
		{"the default's", objects{ofAll: `{"log-level":"warn","status-interval":"1m0s"}`}},
		{"ours over them, and theirs are nothing to us", objects{ofOurs: `{"log-level.containers.ipsec":"debug","log-level":"error"}`, ofTheirs: `{"status-interval":"7s"}`}},
		{"ours change", objects{ofOurs: `{"log-level.containers":"debug","log-level.containers.ipsec.ipsec-pluto":"info"}`}},
		{"ours go", objects{ofOurs: ""}},
		{"all go", objects{ofAll: "", ofTheirs: ""}},
	} {
		all = all.with(r.changes)
		w.Write(t, all)
		h.hears(r.name, all)
	}
	// A bad value is left out, and the other settings and the containers stand.
	w.BadSetting(t)
	h.until("a bad value", func(d spec.Desired) bool {
		_, loud := d.Settings["log-level"]
		return !loud && d.Settings["status-interval"] == "5s" && d.Unread == "" && len(d.Bindings) == 2
	}, nil)
}
