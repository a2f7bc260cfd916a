package model

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// treeSnapshot is a Snapshot that contains the data of every node, by path.
type treeSnapshot map[string][]byte

func (w treeSnapshot) Get(path string) ([]byte, State) {
	data, ok := w[path]
	if !ok {
		return nil, Absent
	}
	return data, Present
}

// Export returns the native objects of a whole tree, sorted by key. nodes contains, by path, the data of every node
// below Objects(class) for all Classes, of config/templates/default and of every config/nodes/<id>. A port without a
// host is not exported as a binding. Objects that cannot be read, and objects that refer to one that is not exported,
// are left out; faults has the reasons. The returned objects pass validate.
func Export(tree Tree, nodes map[string][]byte) (objects []spec.Object, faults []native.Fault) {
	e := &exporter{tree: tree, nodes: nodes, pendingConfigurations: map[UUID]string{}}
	forEach(e, Host, readHost, e.host)
	forEach(e, ServiceContainer, readContainer, e.container)
	forEach(e, ServiceContainerGroup, read, e.group)
	forEach(e, Port, readPort, e.binding)
	forEach(e, Router, readRouter, e.router)
	// Objects of these classes are exported with the objects that refer to them. Read all of them here, so that an
	// object that cannot be read is reported even if nothing refers to it.
	forEach(e, VpnService, readService, ignore)
	forEach(e, IPSecSiteConnection, readConnection, ignore)
	forEach(e, HostGroup, read, ignore)
	for _, id := range slices.Sorted(maps.Keys(e.pendingConfigurations)) {
		if serviceType := e.pendingConfigurations[id]; serviceType != ipsecType {
			e.addObject(native.ConfigurationKey(spec.ConfigurationID(id)), "id", id)
		}
	}
	e.settings()
	objects, faults = native.Exportable(e.objects, nil)
	return objects, append(e.faults, faults...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type exporter struct {
	tree    Tree
	nodes   treeSnapshot
	objects []spec.Object
	faults  []native.Fault

	// pendingConfigurations has the configurations of exported containers that are not exported themselves yet. It maps
	// the id of a configuration to the service type of a container that has it.
	pendingConfigurations map[UUID]string
}

// addFault records a fault of a node, unless it is already recorded.
func (e *exporter) addFault(path, text string) {
	fault := native.Fault{Key: native.Key(path), Text: text}
	if !slices.Contains(e.faults, fault) {
		e.faults = append(e.faults, fault)
	}
}

// addObject adds an object whose members are alternating keys and values. It keeps their order and leaves out empty
// strings and null.
func (e *exporter) addObject(key native.Key, members ...any) {
	d := new(document)
	for i := 0; i < len(members); i += 2 {
		value := marshal(members[i+1])
		if string(value) != `""` && string(value) != "null" {
			d.members = append(d.members, jsonform.Member{Key: members[i].(string), Value: value})
		}
	}
	e.objects = append(e.objects, spec.Object{Key: string(key), Value: d.compact()})
}

// forEach calls do for every object of a class that can be read, in the order of their ids. It records a fault for an
// object that cannot be read or for which do fails.
func forEach[T any](e *exporter, class Class, read func([]byte, UUID) (T, error), do func(id UUID, value T) error) {
	kind := e.tree.Objects(class) + "/"
	for _, path := range slices.Sorted(maps.Keys(e.nodes)) {
		name, ok := strings.CutPrefix(path, kind)
		if !ok {
			continue
		}
		id, err := ParseUUID("id", name)
		if err != nil {
			e.addFault(path, err.Error())
			continue
		}
		value, err := read(e.nodes[path], id)
		if err == nil {
			err = do(id, value)
		}
		if err != nil {
			e.addFault(path, err.Error())
		}
	}
}

func ignore[T any](UUID, T) error { return nil }

func (e *exporter) host(id UUID, h host) error {
	e.addObject(native.HostKey(h.ID), "id", id, "name", h.Name, "containerWeight", h.Weight, "containerLimit", h.Limit)
	return nil
}

func (e *exporter) container(id UUID, c container) error {
	e.addObject(native.ContainerKey(spec.ContainerID(id)), "id", id, "serviceType", c.serviceType, "groupId", c.group,
		"configurationId", c.configuration, "portId", c.port)
	if c.configuration != "" && e.pendingConfigurations[c.configuration] != ipsecType {
		e.pendingConfigurations[c.configuration] = c.serviceType
	}
	return nil
}

func (e *exporter) group(id UUID, r fieldReader) error {
	policy, group := r.nativeName("policy", policies), r.id("host_group_id")
	if err := r.err(); err != nil {
		return err
	}
	e.addObject(native.GroupKey(spec.GroupID(id)), "id", id, "policy", policy, "hostIds", e.hostsOf(group, id))
	return nil
}

// hostsOf returns the hosts of the HostGroup of a ServiceContainerGroup. For a HostGroup that does not exist or
// cannot be read it records a fault and returns none.
func (e *exporter) hostsOf(group, of UUID) (hosts []UUID) {
	if group == "" {
		return nil
	}
	path := e.tree.Object(HostGroup, group)
	data, ok := e.nodes[path]
	if !ok {
		e.addFault(path, "no such object, and "+e.tree.Object(ServiceContainerGroup, of)+" names it")
		return nil
	}
	r, err := read(data, group)
	if err == nil {
		hosts, err = r.ids("host_ids"), r.err()
	}
	if err != nil {
		e.addFault(path, err.Error())
		return nil
	}
	return hosts
}

func (e *exporter) binding(id UUID, p port) error {
	if p.host == "" {
		return nil
	}
	to, err := p.connect()
	if err != nil {
		if p.bound(p.host) {
			return err
		}
		to = spec.Port{} // a binding without a container is ignored, and its addresses with it
	}
	container := p.container
	if !p.bound(p.host) {
		container = ""
	}
	e.addObject(native.BindingKey(spec.HostID(p.host), spec.PortID(id)), "portId", id, "hostId", p.host,
		"interfaceName", p.name, "containerId", container, "addresses", to.Addresses, "mac", to.MAC)
	return nil
}

// router exports a router that has VPN services or a container, with those of its connections that can be read.
func (e *exporter) router(id UUID, r router) error {
	if len(r.services) == 0 && e.pendingConfigurations[id] != ipsecType {
		return nil
	}
	delete(e.pendingConfigurations, id)
	f := &resolution{snapshot: e.nodes, tree: e.tree, partial: true}
	f.resolveRouter(e.tree.Root(), id)
	for _, fault := range f.faults {
		e.addFault(string(fault.Key), fault.Text)
	}
	d, err := parseDocument(f.binding.Configuration)
	if err != nil {
		return err
	}
	if r.name != "" {
		d.members = slices.Insert(d.members, 1, jsonform.Member{Key: "name", Value: marshal(r.name)})
	}
	key := string(native.ConfigurationKey(spec.ConfigurationID(id)))
	e.objects = append(e.objects, spec.Object{Key: key, Value: d.compact()})
	return nil
}

func (e *exporter) settings() {
	for _, path := range slices.Sorted(maps.Keys(e.nodes)) {
		scope := spec.SettingDefault
		if path != e.tree.TemplateSettings(defaultTemplate) {
			host, ok := strings.CutPrefix(path, e.tree.HostSettings(""))
			if !ok {
				continue
			}
			if _, err := ParseUUID("host", host); err != nil {
				continue // mn-conf accepts any name
			}
			scope = spec.SettingScope(host)
		}
		d, err := parseDocument(e.nodes[path])
		if err != nil {
			e.addFault(path, err.Error())
			continue
		}
		var members []any
		for _, key := range sortedKeys(settings) {
			value, found, err := settings[key].lookup(key, d)
			if err != nil {
				e.addFault(path, err.Error())
			}
			if found {
				members = append(members, key, json.RawMessage(marshal(value)))
			}
		}
		if len(members) > 0 {
			e.addObject(native.SettingsKey(scope), members...)
		}
	}
}
