package model

import (
	"encoding/json"
	"fmt"
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
// all Classes, of config/templates/default and of all config/nodes/<id>, by path. A port that no host has is no binding. An
// object that cannot be read fails it: half an export is none.
func Export(tree Tree, nodes map[string][]byte) ([]spec.Object, error) {
	e := &exporter{tree: tree, nodes: nodes}
	for _, step := range []func() error{e.hosts, e.containers, e.groups, e.bindings, e.routers, e.settings} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(e.objects, func(a, b spec.Object) int { return strings.Compare(a.Key, b.Key) })
	return e.objects, nil
}

type exporter struct {
	tree    Tree
	nodes   wholeTree
	objects []spec.Object
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

// each calls a function for every object of a class, by id.
func each[T any](e *exporter, class Class, read func([]byte, UUID) (T, error), do func(id UUID, value T) error) error {
	folder := e.tree.Objects(class) + "/"
	for _, path := range slices.Sorted(maps.Keys(e.nodes)) {
		name, ok := strings.CutPrefix(path, folder)
		if !ok {
			continue
		}
		id, err := ParseUUID("id", name)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		value, err := read(e.nodes[path], id)
		if err == nil {
			err = do(id, value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (e *exporter) hosts() error {
	return each(e, Host, readHost, func(id UUID, h host) error {
		e.put(native.HostKey(h.ID), "id", id, "name", h.Name, "containerWeight", h.Weight, "containerLimit", h.Limit)
		return nil
	})
}

func (e *exporter) containers() error {
	return each(e, ServiceContainer, readContainer, func(id UUID, c container) error {
		e.put(native.ContainerKey(spec.ContainerID(id)), "id", id, "serviceType", c.serviceType, "groupId", c.group,
			"configurationId", c.configuration, "portId", c.port)
		return nil
	})
}

func (e *exporter) groups() error {
	return each(e, ServiceContainerGroup, read, func(id UUID, r reading) error {
		policy, group := r.word("policy", policies), r.id("host_group_id")
		if err := r.err(); err != nil {
			return err
		}
		var hosts []UUID
		if data, ok := e.nodes[e.tree.Object(HostGroup, group)]; ok && group != "" {
			r, err := read(data, group)
			if err != nil {
				return fmt.Errorf("HostGroup %s: %w", group, err)
			}
			if hosts = r.ids("host_ids"); r.err() != nil {
				return fmt.Errorf("HostGroup %s: %w", group, r.err())
			}
		}
		e.put(native.GroupKey(spec.GroupID(id)), "id", id, "policy", policy, "hostIds", hosts)
		return nil
	})
}

func (e *exporter) bindings() error {
	return each(e, Port, readPort, func(id UUID, p port) error {
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
	})
}

// routers exports the routers that have VPN services or a container, and the bare configurations of containers of other types.
func (e *exporter) routers() error {
	wanted := map[UUID]string{}
	err := each(e, ServiceContainer, readContainer, func(_ UUID, c container) error {
		if c.configuration != "" && wanted[c.configuration] != ipsecType {
			wanted[c.configuration] = c.serviceType
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = each(e, Router, readRouter, func(id UUID, r router) error {
		if len(r.services) == 0 && wanted[id] != ipsecType {
			return nil
		}
		delete(wanted, id)
		f := &following{snapshot: e.nodes, tree: e.tree}
		f.followRouter("", id)
		if f.binding.Reading != spec.Whole {
			return fmt.Errorf("%s", f.binding.Fault)
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
	})
	for id, serviceType := range wanted {
		if serviceType != ipsecType {
			e.put(native.ConfigurationKey(spec.ConfigurationID(id)), "id", id)
		}
	}
	return err
}

func (e *exporter) settings() error {
	for path, data := range e.nodes {
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
		d, err := parseDocument(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		var members []any
		for _, key := range sortedKeys(settings) {
			value, found, err := settings[key].of(key, d)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if found {
				members = append(members, key, json.RawMessage(marshal(value)))
			}
		}
		if len(members) > 0 {
			e.put(native.SettingsKey(scope), members...)
		}
	}
	return nil
}
