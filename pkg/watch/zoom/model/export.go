package model

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// wholeTree is a Snapshot of everything.
type wholeTree map[string][]byte

func (w wholeTree) Get(path string) ([]byte, State) {
	data, ok := w[path]
	if !ok {
		return nil, Absent
	}
	return data, Present
}

// Export makes the native objects of a whole tree, sorted by key. nodes has the data of every node below Objects(class) of
// all Classes, of config/templates/default and of all config/nodes/<id>, by path. A port that no host has is no binding. What cannot
// be read, or does not fit, is left out and is in the *native.Incomplete that is returned then: the rest passes validate.
func Export(tree Tree, nodes map[string][]byte) ([]spec.Object, error) {
	objects, faults := ExportReadable(tree, nodes)
	return objects, native.IncompleteUnless(faults)
}

// ExportReadable is Export with the faults as a list.
func ExportReadable(tree Tree, nodes map[string][]byte) ([]spec.Object, []native.Fault) {
	e := &exporter{tree: tree, nodes: nodes, wanted: map[UUID]string{}}
	each(e, Host, readHost, e.host)
	each(e, ServiceContainer, readContainer, e.container)
	each(e, ServiceContainerGroup, read, e.group)
	each(e, Port, readPort, e.binding)
	each(e, Router, readRouter, e.router)
	each(e, VpnService, readService, ignore) // those that nothing refers to: an object that cannot be read is reported
	each(e, IPSecSiteConnection, readConnection, ignore)
	each(e, HostGroup, read, ignore)
	for _, id := range slices.Sorted(maps.Keys(e.wanted)) {
		if serviceType := e.wanted[id]; serviceType != ipsecType {
			e.put(native.ConfigurationKey(spec.ConfigurationID(id)), "id", id)
		}
	}
	e.settings()
	objects, faults := native.Exportable(e.objects, nil)
	return objects, append(e.faults, faults...)
}

type exporter struct {
	tree    Tree
	nodes   wholeTree
	objects []spec.Object
	faults  []native.Fault
	wanted  map[UUID]string // the types of the containers' configurations that are not exported yet
}

// fault notes what is wrong with a node, once.
func (e *exporter) fault(path, text string) {
	fault := native.Fault{Key: native.Key(path), Text: text}
	if !slices.Contains(e.faults, fault) {
		e.faults = append(e.faults, fault)
	}
}

// put adds an object from its keys and values in their order; what is empty is left out.
func (e *exporter) put(key native.Key, members ...any) {
	d := new(document)
	for i := 0; i < len(members); i += 2 {
		value := marshal(members[i+1])
		if string(value) != `""` && string(value) != "null" {
			d.members = append(d.members, member{members[i].(string), value})
		}
	}
	e.objects = append(e.objects, spec.Object{Key: string(key), Value: d.compact()})
}

// each calls a function for every object of a class that can be read, by id.
func each[T any](e *exporter, class Class, read func([]byte, UUID) (T, error), do func(id UUID, value T) error) {
	folder := e.tree.Objects(class) + "/"
	for _, path := range slices.Sorted(maps.Keys(e.nodes)) {
		name, ok := strings.CutPrefix(path, folder)
		if !ok {
			continue
		}
		id, err := ParseUUID("id", name)
		if err != nil {
			e.fault(path, err.Error())
			continue
		}
		value, err := read(e.nodes[path], id)
		if err == nil {
			err = do(id, value)
		}
		if err != nil {
			e.fault(path, err.Error())
		}
	}
}

func ignore[T any](UUID, T) error { return nil }

func (e *exporter) host(id UUID, h host) error {
	e.put(native.HostKey(h.ID), "id", id, "name", h.Name, "containerWeight", h.Weight, "containerLimit", h.Limit)
	return nil
}

func (e *exporter) container(id UUID, c container) error {
	e.put(native.ContainerKey(spec.ContainerID(id)), "id", id, "serviceType", c.serviceType, "groupId", c.group,
		"configurationId", c.configuration, "portId", c.port)
	if c.configuration != "" && e.wanted[c.configuration] != ipsecType {
		e.wanted[c.configuration] = c.serviceType
	}
	return nil
}

func (e *exporter) group(id UUID, r reading) error {
	policy, group := r.word("policy", policies), r.id("host_group_id")
	if err := r.err(); err != nil {
		return err
	}
	e.put(native.GroupKey(spec.GroupID(id)), "id", id, "policy", policy, "hostIds", e.hostsOf(group, id))
	return nil
}

// hostsOf lists the hosts of a HostGroup. One that is not there, or cannot be read, has none.
func (e *exporter) hostsOf(group, of UUID) (hosts []UUID) {
	if group == "" {
		return nil
	}
	path := e.tree.Object(HostGroup, group)
	data, ok := e.nodes[path]
	if !ok {
		e.fault(path, "no such object, and "+e.tree.Object(ServiceContainerGroup, of)+" names it")
		return nil
	}
	r, err := read(data, group)
	if err == nil {
		hosts, err = r.ids("host_ids"), r.err()
	}
	if err != nil {
		e.fault(path, err.Error())
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
		to = spec.Port{} // of a plain port nobody reads it
	}
	container := p.container
	if !p.bound(p.host) {
		container = ""
	}
	e.put(native.BindingKey(spec.HostID(p.host), spec.PortID(id)), "portId", id, "hostId", p.host, "interfaceName", p.name,
		"containerId", container, "addresses", to.Addresses, "mac", to.MAC)
	return nil
}

// router exports a router that has VPN services or a container, with those of its connections that can be read.
func (e *exporter) router(id UUID, r router) error {
	if len(r.services) == 0 && e.wanted[id] != ipsecType {
		return nil
	}
	delete(e.wanted, id)
	f := &following{snapshot: e.nodes, tree: e.tree, partial: true}
	f.followRouter(e.tree.Root(), id)
	for _, fault := range f.faults {
		e.fault(string(fault.Key), fault.Text)
	}
	d, err := parseDocument(f.binding.Configuration)
	if err != nil {
		return err
	}
	if r.name != "" {
		d.members = slices.Insert(d.members, 1, member{"name", marshal(r.name)})
	}
	e.objects = append(e.objects, spec.Object{Key: string(native.ConfigurationKey(spec.ConfigurationID(id))), Value: d.compact()})
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
				continue // mn-conf takes whatever it is given
			}
			scope = spec.SettingScope(host)
		}
		d, err := parseDocument(e.nodes[path])
		if err != nil {
			e.fault(path, err.Error())
			continue
		}
		var members []any
		for _, key := range sortedKeys(settings) {
			value, found, err := settings[key].of(key, d)
			if err != nil {
				e.fault(path, err.Error())
			}
			if found {
				members = append(members, key, json.RawMessage(marshal(value)))
			}
		}
		if len(members) > 0 {
			e.put(native.SettingsKey(scope), members...)
		}
	}
}
