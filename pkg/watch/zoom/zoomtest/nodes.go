// Package zoomtest writes fixtures into MidoNet's model: Nodes returns the nodes of native objects, and Seed writes
// them into a ZooKeeper. In a MidoNet cluster, MidoNet's own tools write these nodes. The package is for tests and for
// the demo.
//
// It supports what fixtures need: it writes whole objects, and refuses what MidoNet cannot represent. The nodes are
// printed by package texttest, which shares no code with the supervisor.
package zoomtest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/strictjson"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text/texttest"
)

// Node is one node of a MidoNet cluster. Class is "" for a node with settings.
type Node struct {
	Path  string
	Class model.Class
	Data  []byte
}

// Nodes returns the nodes that MidoNet's API would have written for native objects, sorted by path. Each reference
// between two objects is written in both of them. An object that refers to a missing object has the reference; no node
// is returned for the missing object. A member that MidoNet cannot represent, or an id that is not a UUID, is an error.
func Nodes(tree model.Tree, objects []spec.Object) (nodes []Node, err error) {
	defer func() {
		if fault, ok := recover().(failure); ok {
			nodes, err = nil, fault.error
		}
	}()
	w := &writer{
		tree: tree, objects: map[string]*object{}, containers: map[string]container{}, users: map[string]container{},
	}
	for _, kind := range kinds {
		for _, o := range objects {
			if rest, ok := strings.CutPrefix(o.Key, kind.prefix+"/"); ok {
				w.key = o.Key
				kind.write(w, rest, o.Value)
			}
		}
	}
	for path, o := range w.objects {
		if !o.whole {
			continue
		}
		data, err := texttest.Print(string(o.class), o.values)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		w.nodes = append(w.nodes, Node{path, o.class, data})
	}
	slices.SortFunc(w.nodes, func(a, b Node) int { return cmp.Compare(a.Path, b.Path) })
	return w.nodes, nil
}

// kinds lists the kinds of native objects in the order in which they are written. Bindings and configurations need the
// service type of their container.
var kinds = []struct {
	prefix string
	write  func(w *writer, rest string, value json.RawMessage)
}{
	{"hosts", (*writer).host},
	{"groups", (*writer).group},
	{"containers", (*writer).container},
	{"bindings", (*writer).binding},
	{"configurations", (*writer).configuration},
	{"config", (*writer).settings},
}

// writer collects the objects.
type writer struct {
	tree       model.Tree
	key        string             // of the native object that is being written
	objects    map[string]*object // by path
	nodes      []Node             // settings
	containers map[string]container
	users      map[string]container // one container of each configuration, if possible of type IPSEC
}

// object is an object of MidoNet.
type object struct {
	class  model.Class
	values texttest.Values
	whole  bool // the object itself is written, and not only references to it
}

// failure is the panic value with which the methods of writer report an error.
type failure struct{ error }

func (w *writer) check(err error) {
	if err != nil {
		panic(failure{fmt.Errorf("%s: %w", w.key, err)})
	}
}

func (w *writer) decode(value json.RawMessage, into any) { w.check(strictjson.Unmarshal(value, into)) }

func (w *writer) uuid(id string) texttest.Values {
	_, err := model.ParseUUID("id", id)
	w.check(err)
	return texttest.UUID(id)
}

// reference returns the values of an object to which another object refers.
func (w *writer) reference(class model.Class, id string) texttest.Values {
	path := w.tree.Object(class, model.UUID(id))
	if w.objects[path] == nil {
		w.objects[path] = &object{class: class, values: texttest.Values{"id": {w.uuid(id)}}}
	}
	return w.objects[path].values
}

// object returns the values of an object that is written.
func (w *writer) object(class model.Class, id string) texttest.Values {
	values := w.reference(class, id)
	w.objects[w.tree.Object(class, model.UUID(id))].whole = true
	return values
}

// put sets a field, unless the value is "".
func put(values texttest.Values, name string, value any) {
	if value != "" {
		values[name] = []any{value}
	}
}

func add(values texttest.Values, name string, value any) { values[name] = append(values[name], value) }

func (w *writer) host(id string, value json.RawMessage) {
	h := struct {
		ID     string
		Name   string
		Weight int `json:"containerWeight"`
		Limit  int `json:"containerLimit"`
	}{Weight: 1, Limit: -1}
	w.decode(value, &h)
	values := w.object(model.Host, id)
	put(values, "name", h.Name)
	put(values, "container_weight", h.Weight)
	put(values, "container_limit", h.Limit)
}

func (w *writer) group(id string, value json.RawMessage) {
	var g struct {
		ID      string
		Policy  string
		HostIDs []string
	}
	w.decode(value, &g)
	values := w.object(model.ServiceContainerGroup, id)
	put(values, "policy", enumName(g.Policy))
	if len(g.HostIDs) == 0 {
		return
	}
	hosts := derivedID(id, "host group")
	put(values, "host_group_id", w.uuid(hosts))
	group := w.object(model.HostGroup, hosts)
	add(group, "service_group_ids", w.uuid(id))
	for _, host := range g.HostIDs {
		add(group, "host_ids", w.uuid(host))
		add(w.reference(model.Host, host), "host_group_ids", w.uuid(hosts))
	}
}

// container is a native container.
type container struct {
	ID              string
	ServiceType     string
	GroupID         string
	ConfigurationID string
	PortID          string
}

// isIPSEC reports whether the configuration of the container is a Router.
func (c container) isIPSEC() bool { return c.ServiceType == "IPSEC" }

func (w *writer) container(id string, value json.RawMessage) {
	c := container{ID: id}
	w.decode(value, &c)
	values := w.object(model.ServiceContainer, id)
	put(values, "service_type", c.ServiceType)
	for name, to := range map[string]string{
		"service_group_id": c.GroupID, "configuration_id": c.ConfigurationID, "port_id": c.PortID,
	} {
		if to != "" {
			put(values, name, w.uuid(to))
		}
	}
	if c.GroupID != "" {
		add(w.reference(model.ServiceContainerGroup, c.GroupID), "service_container_ids", w.uuid(id))
	}
	w.containers[id] = c
	if !w.users[c.ConfigurationID].isIPSEC() {
		w.users[c.ConfigurationID] = c
	}
}

func (w *writer) binding(rest string, value json.RawMessage) {
	var b struct {
		PortID        string
		HostID        string
		InterfaceName string
		ContainerID   string
		Addresses     []string
		MAC           string
	}
	w.decode(value, &b)
	host, id, _ := strings.Cut(rest, "/")
	values := w.object(model.Port, id)
	put(values, "host_id", w.uuid(host))
	add(w.reference(model.Host, host), "port_ids", w.uuid(id))
	put(values, "interface_name", b.InterfaceName)
	put(values, "port_mac", b.MAC)
	for _, cidr := range b.Addresses {
		prefix := w.prefix(cidr)
		add(values, "port_subnet", subnet(prefix))
		add(values, "port_address", address(prefix.Addr()))
	}
	if b.ContainerID == "" {
		return
	}
	put(values, "service_container_id", w.uuid(b.ContainerID))
	if c := w.reference(model.ServiceContainer, b.ContainerID); !c.Has("port_id") {
		put(c, "port_id", w.uuid(id))
	}
	if c := w.containers[b.ContainerID]; c.isIPSEC() && c.ConfigurationID != "" {
		put(values, "router_id", w.uuid(c.ConfigurationID))
		add(w.reference(model.Router, c.ConfigurationID), "port_ids", w.uuid(id))
	}
}

func (w *writer) settings(rest string, value json.RawMessage) {
	var values map[string]string
	w.decode(value, &values)
	path, err := w.tree.Settings(spec.SettingScope(strings.TrimPrefix(rest, "hosts/")))
	if rest == "default" {
		path, err = w.tree.Settings(spec.SettingDefault)
	}
	w.check(err)
	var data []byte
	for _, key := range slices.Sorted(maps.Keys(values)) {
		data, err = model.EditSetting(data, key, values[key])
		w.check(err)
	}
	w.nodes = append(w.nodes, Node{Path: path, Data: data})
}

func (w *writer) prefix(cidr string) netip.Prefix {
	prefix, err := netip.ParsePrefix(cidr)
	w.check(err)
	return prefix
}

func address(a netip.Addr) texttest.Values {
	version := "V6"
	if a.Is4() {
		version = "V4"
	}
	return texttest.Values{"version": {version}, "address": {a.String()}}
}

func subnet(p netip.Prefix) texttest.Values {
	values := address(p.Addr())
	put(values, "prefix_length", p.Bits())
	return values
}

// enumName returns the name that MidoNet has for a value of a native object.
func enumName(native string) string {
	switch native {
	case "weighted":
		return "WEIGHTED_SCHEDULER"
	case "leastContainers":
		return "LEAST_SCHEDULER"
	case "3des":
		return "DES_3"
	}
	return strings.ToUpper(strings.ReplaceAll(native, "-", "_"))
}

// derivedID returns the id of an object that MidoNet needs and that native objects do not have, as a UUID of version
// 8 (RFC 9562, section 5.8). It is always the same for the same owner and purpose.
func derivedID(owner, purpose string) string {
	sum := sha256.Sum256([]byte(purpose + " of " + owner))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	digits := hex.EncodeToString(sum[:16])
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}
