package conformance

import (
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// row is one change by another client. Container 2 is never changed, and no set may show a change of it.
type row struct {
	name   string
	before objects // added to baseObjects
	after  objects // added to before
	bridge bool    // needs a kind with bridges
}

// runRows runs each row with a new backend.
func runRows(t *testing.T, k *Kind, rows []row) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if r.bridge && !k.Bridge {
				t.Skip("bindings have no bridge in this kind")
			}
			if k.Parallel {
				t.Parallel()
			}
			backend := k.Fresh(t)
			before := baseObjects().with(r.before)
			backend.Write(t, before)
			o := observe(t, backend)
			o.waitForSet("before", before)
			mark := o.count()
			after := before.with(r.after)
			backend.Write(t, after)
			o.waitForSet("after", after)
			o.onlyKnownStates(mark, before, after)
			backend.Write(t, before)
			o.waitForSet("the change undone", before)
		})
	}
}

// onlyKnownStates checks that every set since a mark contains only bindings that exist before or after the change. Sets
// with an unread host are skipped.
func (o *observer) onlyKnownStates(mark int, before, after objects) {
	o.Helper()
	states := []spec.Desired{desiredSet(before), desiredSet(after)}
	for n, set := range o.since(mark) {
		if set.Unread != "" {
			continue
		}
		for i := range set.Bindings {
			b := &set.Bindings[i]
			known := b.Reading != spec.Complete // an object may not be written yet
			for _, state := range states {
				same := find(state, b.PortID)
				known = known || same != nil && diffBindings(b, same) == ""
			}
			if !known && !mixed(b, states) {
				o.Errorf("set %d: port %s never had this state: %+v", mark+n, b.PortID, b.Container)
			}
		}
		for _, state := range states[0].Bindings {
			if find(set, state.PortID) == nil && find(states[1], state.PortID) != nil {
				o.Errorf("set %d: port %s is missing, and was never removed", mark+n, state.PortID)
			}
		}
	}
}

// mixed reports whether each part of a binding comes from one of the states. A kind without transactions may report
// such a binding while the objects are written one after the other.
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

// containerChanges has the rows of "What drives a container" in docs/nsdb.md.
func containerChanges(t *testing.T, k *Kind) {
	runRows(t, k, []row{
		{name: "a binding appears with a container", after: containerObjects(1, 3)},
		{name: "an existing binding gets a container",
			before: objects{
				bindingKey(1, 3):    bindingObject(1, 3, edit{"containerId": nil}),
				containerKey(3):     containerObject(3, edit{"portId": nil}),
				configurationKey(3): configurationObject(3, "secret"),
			},
			after: objects{bindingKey(1, 3): bindingObject(1, 3), containerKey(3): containerObject(3)}},
		{name: "a binding is removed", after: objects{
			bindingKey(1, 1): "", containerKey(1): containerObject(1, edit{"portId": nil})}},
		{name: "a binding is removed with its objects", after: objects{
			bindingKey(1, 1): "", containerKey(1): "", configurationKey(1): ""}},
		{name: "a binding loses its container", after: objects{
			bindingKey(1, 1): bindingObject(1, 1, edit{"containerId": nil}),
			containerKey(1):  containerObject(1, edit{"portId": nil}),
		}},
		{name: "a binding moves to another host", after: objects{
			bindingKey(1, 1): "", bindingKey(2, 1): bindingObject(2, 1)}},
		{name: "another interface name", after: objects{
			bindingKey(1, 1): bindingObject(1, 1, edit{"interfaceName": "vpn-other"})}},
		{name: "another container",
			before: objects{
				containerKey(3): containerObject(3, edit{"portId": nil, "configurationId": id("configuration", 1)}),
			},
			after: objects{
				bindingKey(1, 1): bindingObject(1, 1, edit{"containerId": id("container", 3)}),
				containerKey(1):  containerObject(1, edit{"portId": nil}),
				containerKey(3): containerObject(3, edit{
					"portId": id("port", 1), "configurationId": id("configuration", 1),
				}),
			}},
		{name: "the content of the configuration", after: objects{
			configurationKey(1): configurationObject(1, "another secret")}},
		{name: "the port's address", after: objects{
			bindingKey(1, 1): bindingObject(1, 1, edit{"addresses": []string{"169.254.77.1/30"}})}},
		{name: "the port's MAC", after: objects{
			bindingKey(1, 1): bindingObject(1, 1, edit{"mac": "ca:08:ff:00:00:01"})}},
		{name: "the port's bridge", bridge: true, after: objects{
			bindingKey(1, 1): bindingObject(1, 1, edit{"bridge": "br-left"})}},
		{name: "the group", after: objects{containerKey(1): containerObject(1, edit{"groupId": id("group", 2)})}},
		{name: "the host's weight", after: objects{hostKey(1): hostObject(1, edit{"containerWeight": 0})}},
		{name: "the host's limit", after: objects{hostKey(1): hostObject(1, edit{"containerLimit": 1})}},
		{name: "a port without a container is ignored, and a change of the host with it is not", after: objects{
			bindingKey(1, 4): bindingObject(1, 4, edit{"containerId": nil, "interfaceName": "tap4"}),
			hostKey(1):       hostObject(1, edit{"containerWeight": 7}),
		}},
		{name: "another service type", after: objects{ // no kind parses the configuration of that type
			containerKey(1):     containerObject(1, edit{"serviceType": "OTHER"}),
			configurationKey(1): object(edit{"id": id("configuration", 1)}),
		}},
	})
}

// unreadableObjects has objects that cannot be used. The container of the object becomes unknown, and container 2 is
// not affected.
func unreadableObjects(t *testing.T, k *Kind) {
	runRows(t, k, []row{
		{name: "no container", after: objects{containerKey(1): ""}},
		{name: "no configuration", after: objects{configurationKey(1): ""}},
		{
			name:  "a container without a group",
			after: objects{containerKey(1): containerObject(1, edit{"groupId": nil})},
		},
		{name: "a container without a configuration", after: objects{
			containerKey(1): containerObject(1, edit{"configurationId": nil})}},
		{name: "a container without a type", after: objects{
			containerKey(1): containerObject(1, edit{"serviceType": nil})}},
	})
	for _, r := range []struct {
		name, key string
		known     bool // the interface name is known
	}{
		{"a corrupt binding", bindingKey(1, 1), false},
		{"a corrupt container", containerKey(1), true},
		{"a corrupt configuration", configurationKey(1), true},
	} {
		t.Run(r.name, func(t *testing.T) {
			if k.Parallel {
				t.Parallel()
			}
			backend := k.Fresh(t)
			backend.Write(t, baseObjects())
			o := observe(t, backend)
			o.waitForSet("before", baseObjects())
			backend.Corrupt(t, r.key)
			o.waitFor("the fault", func(d spec.Desired) bool {
				b, other := find(d, port(1)), find(d, port(2))
				if d.Unread != "" || b == nil || other == nil || other.Reading != spec.Complete ||
					b.Reading == spec.Complete {
					return false
				}
				if strings.Contains(b.Fault, "\n") || b.Fault == "" || strings.Contains(b.Fault, "hunter2") {
					t.Errorf("the fault is %q", b.Fault)
				}
				return r.known == (b.Container.InterfaceName == "vpn-1") && (b.Reading == spec.Unread) == !r.known
			}, nil)
			backend.Write(t, baseObjects())
			o.waitForSet("the object readable again", baseObjects())
		})
	}
}

// hostObjects tests the host's own object. Without it the host is unread.
func hostObjects(t *testing.T, k *Kind) {
	backend := k.Fresh(t)
	backend.Write(t, baseObjects())
	o := observe(t, backend)
	o.waitForSet("before", baseObjects())
	unread := func(d spec.Desired) bool { return d.Unread != "" && d.Host.ID == thisHost && len(d.Bindings) == 0 }
	backend.Write(t, baseObjects().without(hostKey(1)))
	o.waitFor("the host is deleted", unread, nil)
	changed := baseObjects().with(containerObjects(1, 3)).with(objects{
		bindingKey(1, 2): "", containerKey(2): containerObject(2, edit{"portId": nil}),
	})
	backend.Write(t, changed.without(hostKey(1)))
	backend.Write(t, changed)
	o.waitForSet("the host and the changes made meanwhile", changed)
	backend.Corrupt(t, hostKey(1))
	o.waitFor("the host cannot be read", unread, nil)
	backend.Write(t, baseObjects())
	o.waitForSet("the host readable again", baseObjects())
	o.onlyKnownStates(0, baseObjects(), changed)
}

// otherHosts checks that changes of other hosts are not reported. A later change of this host must cause the only set.
func otherHosts(t *testing.T, k *Kind) {
	backend := k.Fresh(t)
	backend.Write(t, baseObjects())
	o := observe(t, backend)
	o.waitForSet("before", baseObjects())
	mark := o.count()
	all := baseObjects()
	for n := 10; n < 30; n++ {
		all = all.with(containerObjects(2, n))
		backend.Write(t, all)
	}
	all = all.with(objects{
		hostKey(2): hostObject(2, edit{"containerWeight": 9}), configurationKey(9): configurationObject(9, "x"),
	})
	backend.Write(t, all)
	all = all.with(objects{hostKey(1): hostObject(1, edit{"containerWeight": 9})})
	backend.Write(t, all)
	o.waitForSet("the change of this host", all)
	if sets := o.since(mark); len(sets) != 1 {
		t.Errorf("%d sets were reported for one change", len(sets))
	}
}

// missingPrefix starts without any object.
func missingPrefix(t *testing.T, k *Kind) {
	backend := k.Fresh(t)
	o := observe(t, backend)
	o.waitFor("no object exists", func(d spec.Desired) bool {
		return d.Unread != "" && !strings.Contains(d.Unread, "\n")
	}, nil)
	backend.Write(t, baseObjects())
	o.waitForSet("the objects are created", baseObjects())
	for n, set := range o.since(0) {
		if set.Unread == "" && len(set.Bindings) != 2 {
			t.Errorf("set %d has %d bindings: it was reported before all objects were written", n, len(set.Bindings))
		}
	}
}

// settings tests the default settings and the settings of hosts, which override them.
func settings(t *testing.T, k *Kind) {
	backend := k.Fresh(t)
	backend.Write(t, baseObjects())
	o := observe(t, backend)
	o.waitForSet("none", baseObjects())
	all := baseObjects()
	const defaults = "config/default"
	thisHostSettings, otherHostSettings := "config/hosts/"+string(thisHost), "config/hosts/"+string(otherHost)
	for _, r := range []struct {
		name    string
		changes objects
	}{
		{"the default's", objects{defaults: `{"log-level":"warn","status-interval":"1m0s"}`}},
		{"this host's override them, and the other host's do not", objects{
			thisHostSettings:  `{"log-level.containers.ipsec":"debug","log-level":"error"}`,
			otherHostSettings: `{"status-interval":"7s"}`,
		}},
		{"this host's change", objects{
			thisHostSettings: `{"log-level.containers":"debug","log-level.containers.ipsec.ipsec-pluto":"info"}`,
		}},
		{"this host's are removed", objects{thisHostSettings: ""}},
		{"all are removed", objects{defaults: "", otherHostSettings: ""}},
	} {
		all = all.with(r.changes)
		backend.Write(t, all)
		o.waitForSet(r.name, all)
	}
	// An invalid value is left out. The other settings and the containers remain.
	backend.BadSetting(t)
	o.waitFor("a bad value", func(d spec.Desired) bool {
		_, loud := d.Settings["log-level"]
		return !loud && d.Settings["status-interval"] == "5s" && d.Unread == "" && len(d.Bindings) == 2
	}, nil)
}
