package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// Nodes makes the nodes of native objects, as MidoNet's API would have written them, with both ends of each reference, sorted
// so that what is referred to comes before what refers to it. What MidoNet has no place for (an id that is no UUID, SHA-256,
// a bridge) is an error that names the object, the key and what is allowed, and never repeats a pre-shared key.
func Nodes(tree Tree, objects []spec.Object) ([]Node, error) {
	w := &writer{tree: tree, nodes: map[string]*Node{}, types: map[UUID]spec.ServiceType{}, users: map[UUID]UUID{}}
	documents := map[string]*native.Document{}
	for _, object := range objects {
		if documents[object.Key] != nil {
			return nil, fmt.Errorf("%s: %w", spec.Quote(object.Key), errTwice)
		}
		document, err := native.Parse(object.Value, native.JSON)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Quote(object.Key), err)
		}
		documents[object.Key] = document
	}
	keys := sortedKeys(documents)
	for _, folder := range folders {
		for _, key := range keys {
			rest, ok := strings.CutPrefix(key, folder.name+"/")
			if !ok {
				continue
			}
			if err := folder.write(w, rest, documents[key]); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			delete(documents, key)
		}
	}
	for _, key := range sortedKeys(documents) {
		return nil, &spec.Fault{Key: "key", Value: key, Allowed: "hosts/<id>, bindings/<host id>/<port id>, containers/<id>, groups/<id>, configurations/<id>, config/default, config/hosts/<id>"}
	}
	return w.sorted(), nil
}

// folders are written one after the other: a binding and a configuration ask what type of container they are for.
var folders = []struct {
	name  string
	write func(w *writer, rest string, document *native.Document) error
}{
	{native.Hosts, (*writer).host},
	{native.Groups, (*writer).group},
	{native.Containers, (*writer).container},
	{native.Bindings, (*writer).binding},
	{native.Configurations, (*writer).configuration},
	{native.Config, (*writer).settings},
}

// writer collects nodes.
type writer struct {
	tree  Tree
	nodes map[string]*Node
	types map[UUID]spec.ServiceType // by container and by configuration
	users map[UUID]UUID             // by container its configuration, by configuration a container that has it
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// order is that of the nodes: what refers comes after what it refers to. So a host sees a new container when all of it is there.
var order = []Class{HostGroup, IPSecSiteConnection, VpnService, outer, Router, ServiceContainerGroup, ServiceContainer, Port, Host, ""}

// outer stands for the ports that no host has: a router finds its external address by them.
const outer Class = "Port without a host"

func (n *Node) rank() Class {
	if _, bound := n.message.Last("host_id"); n.class == Port && !bound {
		return outer
	}
	return n.class
}

func (w *writer) sorted() []Node {
	nodes := make([]Node, 0, len(w.nodes))
	for _, path := range sortedKeys(w.nodes) {
		n := w.nodes[path]
		n.finish()
		nodes = append(nodes, *n)
	}
	slices.SortStableFunc(nodes, func(a, b Node) int {
		return cmp.Compare(slices.Index(order, a.rank()), slices.Index(order, b.rank()))
	})
	return nodes
}

// node returns the node of an object, which may have been begun by what refers to it.
func (w *writer) node(class Class, id UUID) *Node {
	path := w.tree.Object(class, id)
	if w.nodes[path] == nil {
		m := new(text.Message)
		m.Add("id", uuidValue(id))
		w.nodes[path] = &Node{Path: path, class: class, message: m}
	}
	return w.nodes[path]
}

// object begins an object that is imported itself.
func (w *writer) object(class Class, id UUID, clears ...string) *Node {
	n := w.node(class, id)
	n.whole, n.clears = true, append(n.clears, clears...)
	return n
}

// refer adds a back-reference.
func (w *writer) refer(class Class, id UUID, list string, to UUID) {
	n := w.node(class, id)
	if !slices.Contains(n.lists, list) {
		n.lists = append(n.lists, list)
	}
	n.message.Add(list, uuidValue(to))
}

func (n *Node) text(name, value string) {
	if value != "" {
		n.message.Add(name, text.Quoted(value))
	}
}

func (n *Node) id(name string, id UUID) {
	if id != "" {
		n.message.Set(name, uuidValue(id), func(string) bool { return false })
	}
}

// first returns the first of several errors: an error is one line.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// refused is the first of a document's faults.
func refused(faults native.Faults) error {
	if all := faults.All(); len(all) > 0 {
		return all[0]
	}
	return nil
}

func (w *writer) host(rest string, document *native.Document) error {
	id, err := ParseUUID("id", rest)
	if err != nil {
		return err
	}
	host, faults := document.Host(spec.HostID(id))
	if err := refused(faults); err != nil {
		return err
	}
	n := w.object(Host, id, "name")
	n.text("name", host.Name)
	n.message.Add("container_weight", text.Int(host.Weight))
	n.message.Add("container_limit", text.Int(host.Limit))
	return nil
}

func (w *writer) group(rest string, document *native.Document) error {
	id, err := ParseUUID("id", rest)
	if err != nil {
		return err
	}
	group, faults := document.Group(spec.GroupID(id))
	if err := refused(faults); err != nil {
		return err
	}
	policy, _ := policies.of(group.Policy) // native knows the same two
	n := w.object(ServiceContainerGroup, id, "host_group_id")
	n.message.Add("policy", text.Name(policy))
	if len(group.HostIDs) == 0 {
		return nil
	}
	hosts := derive(id, "host group")
	n.id("host_group_id", hosts)
	w.object(HostGroup, hosts, "host_ids")
	w.refer(HostGroup, hosts, "service_group_ids", id)
	for _, hostID := range group.HostIDs {
		host, err := ParseUUID("hostIds", hostID)
		if err != nil {
			return err
		}
		w.node(HostGroup, hosts).message.Add("host_ids", uuidValue(host))
		w.refer(Host, host, "host_group_ids", hosts)
	}
	return nil
}

func (w *writer) container(rest string, document *native.Document) error {
	id, err := ParseUUID("id", rest)
	if err != nil {
		return err
	}
	container, faults := document.Container(spec.ContainerID(id))
	if err := refused(faults); err != nil {
		return err
	}
	group, groupErr := optional("groupId", container.GroupID)
	configuration, configurationErr := optional("configurationId", container.ConfigurationID)
	port, portErr := optional("portId", container.PortID)
	if err := first(groupErr, configurationErr, portErr); err != nil {
		return err
	}
	n := w.object(ServiceContainer, id, "service_group_id", "service_type", "configuration_id")
	n.id("service_group_id", group)
	n.id("port_id", port)
	n.text("service_type", string(container.ServiceType))
	n.id("configuration_id", configuration)
	if group != "" {
		w.refer(ServiceContainerGroup, group, "service_container_ids", id)
	}
	w.types[id], w.users[id] = container.ServiceType, configuration
	if configuration != "" && (w.types[configuration] == "" || container.ServiceType == ipsecType) {
		w.types[configuration], w.users[configuration] = container.ServiceType, id
	}
	return nil
}

func optional[ID ~string](key string, id ID) (UUID, error) {
	if id == "" {
		return "", nil
	}
	return ParseUUID(key, id)
}

func (w *writer) binding(rest string, document *native.Document) error {
	hostPart, portPart, _ := strings.Cut(rest, "/")
	host, hostErr := ParseUUID("hostId", hostPart)
	port, portErr := ParseUUID("portId", portPart)
	if err := first(hostErr, portErr); err != nil {
		return err
	}
	binding, faults := document.Binding(spec.HostID(host), spec.PortID(port))
	if err := refused(faults); err != nil {
		return err
	}
	container, err := optional("containerId", binding.ContainerID)
	switch {
	case err != nil:
		return err
	case w.nodes[w.tree.Object(Port, port)] != nil:
		return &spec.Fault{Key: "portId", Value: string(port), Allowed: "a port that is bound once: MidoNet's have one host"}
	case binding.Port.Bridge != "":
		return &spec.Fault{Key: "bridge", Value: binding.Port.Bridge, Allowed: "none: with MidoNet the agent plugs the interface by its name"}
	case len(binding.Port.Addresses) > 1:
		return &spec.Fault{Key: "addresses", Value: binding.Port.Addresses[1], Allowed: "one: MidoNet's ports have one"}
	}
	n := w.object(Port, port, "host_id", "interface_name", "port_subnet", "port_address", "port_mac", "service_container_id")
	n.id("host_id", host)
	n.text("interface_name", string(binding.InterfaceName))
	for _, cidr := range binding.Port.Addresses {
		prefix, err := spec.ParseCIDR("addresses", cidr)
		if err != nil {
			return err
		}
		n.message.Add("port_subnet", subnetValue(prefix))
		n.message.Add("port_address", addressValue(prefix.Addr()))
	}
	n.text("port_mac", binding.Port.MAC)
	w.refer(Host, host, "port_ids", port)
	if container == "" {
		return nil
	}
	n.id("service_container_id", container)
	if c := w.node(ServiceContainer, container); len(c.message.All("port_id")) == 0 { // one that names another port keeps it
		c.id("port_id", port)
	}
	if router := w.users[container]; router != "" && w.types[container] == ipsecType {
		n.id("router_id", router)
		w.refer(Router, router, "port_ids", port)
	}
	return nil
}

func (w *writer) settings(rest string, document *native.Document) error {
	scope, isHost := strings.CutPrefix(rest, native.Hosts+"/")
	if !isHost && rest != defaultTemplate {
		return &spec.Fault{Key: "key", Value: rest, Allowed: "default, hosts/<id>"}
	}
	path, err := w.tree.Settings(spec.SettingScope(scope))
	if err != nil {
		return err
	}
	values, faults := document.Settings()
	if err := refused(faults); err != nil {
		return err
	}
	n := &Node{Path: path, values: values}
	if n.Data, err = n.ontoSettings(nil); err != nil {
		return err
	}
	w.nodes[path] = n
	return nil
}
