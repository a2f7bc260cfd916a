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

// Nodes returns the nodes of native objects with the content that MidoNet's API would have written, including the
// back-reference of each reference. They are sorted so that an object comes before the objects that refer to it. An
// object that MidoNet cannot represent, for example because of an id that is no UUID, SHA-256 or a bridge, is an
// error. The error names the object, the key and what is allowed, and never contains a pre-shared key.
func Nodes(tree Tree, objects []spec.Object) ([]Node, error) {
	w := &writer{tree: tree, nodes: map[string]*Node{}, types: map[UUID]spec.ServiceType{}, users: map[UUID]UUID{}}
	documents := map[string]*native.Document{}
	for _, object := range objects {
		if documents[object.Key] != nil {
			return nil, fmt.Errorf("%s: %w", spec.Quote(object.Key), errDuplicateObject)
		}
		document, err := native.Parse(object.Value, native.JSON)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Quote(object.Key), err)
		}
		documents[object.Key] = document
	}
	keys := sortedKeys(documents)
	for _, kind := range objectKinds {
		for _, key := range keys {
			rest, ok := strings.CutPrefix(key, kind.prefix+"/")
			if !ok {
				continue
			}
			if err := kind.write(w, rest, documents[key]); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			delete(documents, key)
		}
	}
	for _, key := range sortedKeys(documents) {
		return nil, &spec.Fault{Key: "key", Value: key, Allowed: "hosts/<id>, bindings/<host id>/<port id>, " +
			"containers/<id>, groups/<id>, configurations/<id>, config/default, config/hosts/<id>"}
	}
	return w.sorted(), nil
}

// objectKinds lists the kinds of native objects in the order in which they are written. Bindings and configurations
// come after containers because they depend on the service type of their container.
var objectKinds = []struct {
	prefix string // the first part of the key
	write  func(w *writer, rest string, document *native.Document) error
}{
	{native.Hosts, (*writer).host},
	{native.Groups, (*writer).group},
	{native.Containers, (*writer).container},
	{native.Bindings, (*writer).binding},
	{native.Configurations, (*writer).configuration},
	{native.Config, (*writer).settings},
}

// writer collects the nodes of an import.
type writer struct {
	tree  Tree
	nodes map[string]*Node

	// types has the service types of containers and of configurations, by id.
	types map[UUID]spec.ServiceType

	// users maps a container to its configuration, and a configuration to a container that has it.
	users map[UUID]UUID
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// importOrder is the order in which the classes of nodes are written. An object comes before the objects that refer
// to it, so that a host reads a new container only when all of its objects exist.
var importOrder = []Class{
	HostGroup, IPSecSiteConnection, VpnService, unboundPort, Router, ServiceContainerGroup, ServiceContainer, Port, Host,
	"", // settings
}

// unboundPort is the rank of ports without a host. A router needs them before it is written, because one of them has
// its external address.
const unboundPort Class = "Port without a host"

func (n *Node) rank() Class {
	if _, bound := n.message.Last("host_id"); n.class == Port && !bound {
		return unboundPort
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
		return cmp.Compare(slices.Index(importOrder, a.rank()), slices.Index(importOrder, b.rank()))
	})
	return nodes
}

// node returns the node of an object. It may exist already, with a back-reference from another object.
func (w *writer) node(class Class, id UUID) *Node {
	path := w.tree.Object(class, id)
	if w.nodes[path] == nil {
		m := new(text.Message)
		m.Add("id", uuidValue(id))
		w.nodes[path] = &Node{Path: path, class: class, message: m}
	}
	return w.nodes[path]
}

// object returns the node of an object that is imported itself. clears are the fields that Node.Onto removes if the
// import does not set them.
func (w *writer) object(class Class, id UUID, clears ...string) *Node {
	n := w.node(class, id)
	n.whole, n.clears = true, append(n.clears, clears...)
	return n
}

// addBackReference adds referrer to the field list of an object. referrer is the id of an object that refers to it.
func (w *writer) addBackReference(class Class, id UUID, list string, referrer UUID) {
	n := w.node(class, id)
	if !slices.Contains(n.lists, list) {
		n.lists = append(n.lists, list)
	}
	n.message.Add(list, uuidValue(referrer))
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

// firstError returns the first error that is not nil. Errors are not joined, because the text of an error must be one
// line.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// firstFault returns the first fault of a document, or nil.
func firstFault(faults native.Faults) error {
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
	if err := firstFault(faults); err != nil {
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
	if err := firstFault(faults); err != nil {
		return err
	}
	policy, _ := policies.fromNative(group.Policy) // package native accepts the same two policies
	n := w.object(ServiceContainerGroup, id, "host_group_id")
	n.message.Add("policy", text.Name(policy))
	if len(group.HostIDs) == 0 {
		return nil
	}
	hosts := deriveID(id, "host group")
	n.id("host_group_id", hosts)
	w.object(HostGroup, hosts, "host_ids")
	w.addBackReference(HostGroup, hosts, "service_group_ids", id)
	for _, hostID := range group.HostIDs {
		host, err := ParseUUID("hostIds", hostID)
		if err != nil {
			return err
		}
		w.node(HostGroup, hosts).message.Add("host_ids", uuidValue(host))
		w.addBackReference(Host, host, "host_group_ids", hosts)
	}
	return nil
}

func (w *writer) container(rest string, document *native.Document) error {
	id, err := ParseUUID("id", rest)
	if err != nil {
		return err
	}
	container, faults := document.Container(spec.ContainerID(id))
	if err := firstFault(faults); err != nil {
		return err
	}
	group, groupErr := parseOptionalUUID("groupId", container.GroupID)
	configuration, configurationErr := parseOptionalUUID("configurationId", container.ConfigurationID)
	port, portErr := parseOptionalUUID("portId", container.PortID)
	if err := firstError(groupErr, configurationErr, portErr); err != nil {
		return err
	}
	n := w.object(ServiceContainer, id, "service_group_id", "service_type", "configuration_id")
	n.id("service_group_id", group)
	n.id("port_id", port)
	n.text("service_type", string(container.ServiceType))
	n.id("configuration_id", configuration)
	if group != "" {
		w.addBackReference(ServiceContainerGroup, group, "service_container_ids", id)
	}
	w.types[id], w.users[id] = container.ServiceType, configuration
	if configuration != "" && (w.types[configuration] == "" || container.ServiceType == ipsecType) {
		w.types[configuration], w.users[configuration] = container.ServiceType, id
	}
	return nil
}

func parseOptionalUUID[ID ~string](key string, id ID) (UUID, error) {
	if id == "" {
		return "", nil
	}
	return ParseUUID(key, id)
}

func (w *writer) binding(rest string, document *native.Document) error {
	hostPart, portPart, _ := strings.Cut(rest, "/")
	host, hostErr := ParseUUID("hostId", hostPart)
	port, portErr := ParseUUID("portId", portPart)
	if err := firstError(hostErr, portErr); err != nil {
		return err
	}
	binding, faults := document.Binding(spec.HostID(host), spec.PortID(port))
	if err := firstFault(faults); err != nil {
		return err
	}
	container, err := parseOptionalUUID("containerId", binding.ContainerID)
	switch {
	case err != nil:
		return err
	case w.nodes[w.tree.Object(Port, port)] != nil:
		return &spec.Fault{
			Key: "portId", Value: string(port), Allowed: "a port with one binding: a port of MidoNet has one host",
		}
	case binding.Port.Bridge != "":
		return &spec.Fault{
			Key: "bridge", Value: binding.Port.Bridge,
			Allowed: "none: with MidoNet the agent plugs the interface by its name",
		}
	case len(binding.Port.Addresses) > 1:
		return &spec.Fault{
			Key: "addresses", Value: binding.Port.Addresses[1], Allowed: "one: a port of MidoNet has one address",
		}
	}
	n := w.object(Port, port,
		"host_id", "interface_name", "port_subnet", "port_address", "port_mac", "service_container_id")
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
	w.addBackReference(Host, host, "port_ids", port)
	if container == "" {
		return nil
	}
	n.id("service_container_id", container)
	c := w.node(ServiceContainer, container)
	if len(c.message.All("port_id")) == 0 { // a container that names a port keeps it
		c.id("port_id", port)
	}
	if router := w.users[container]; router != "" && w.types[container] == ipsecType {
		n.id("router_id", router)
		w.addBackReference(Router, router, "port_ids", port)
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
	if err := firstFault(faults); err != nil {
		return err
	}
	n := &Node{Path: path, values: values}
	if n.Data, err = n.ontoSettings(nil); err != nil {
		return err
	}
	w.nodes[path] = n
	return nil
}
