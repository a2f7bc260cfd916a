package native

import (
	"encoding/json"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Host reads the document as the Host object of a host.
func (d *Document) Host(id spec.HostID) (spec.Host, Faults) {
	var inside string
	host := spec.Host{ID: id, Weight: 1, Limit: -1}
	faults := d.decode([]field{
		{"id", &inside}, {"name", &host.Name}, {"containerWeight", &host.Weight}, {"containerLimit", &host.Limit},
	})
	faults.checkID("id", inside, string(id))
	if host.Weight < 0 {
		faults.addValue(&spec.Fault{
			Key: "containerWeight", Value: strconv.Itoa(host.Weight), Allowed: "0 (no new containers) or more",
		})
	}
	if host.Limit < -1 {
		faults.addValue(&spec.Fault{
			Key: "containerLimit", Value: strconv.Itoa(host.Limit), Allowed: "-1 (none), 0 or more",
		})
	}
	return host, faults
}

// Binding has the content of a port binding. Values that a check refused are empty.
type Binding struct {
	Bound         bool // the binding names a container; false for a plain port
	InterfaceName spec.Name
	ContainerID   spec.ContainerID
	Port          spec.Port
}

// Binding reads the document as a port binding. It does not check the values of a plain port, because the supervisor
// does not use its interface.
func (d *Document) Binding(host spec.HostID, port spec.PortID) (Binding, Faults) {
	var portID, hostID, name, container string
	var b Binding
	faults := d.decode([]field{
		{"portId", &portID}, {"hostId", &hostID}, {"interfaceName", &name}, {"containerId", &container},
		{"addresses", &b.Port.Addresses}, {"mac", &b.Port.MAC}, {"bridge", &b.Port.Bridge},
	})
	faults.checkID("portId", portID, string(port))
	faults.checkID("hostId", hostID, string(host))
	b.Bound = container != ""
	if !b.Bound {
		b.InterfaceName, _ = spec.ParseName("interfaceName", name)
		return b, faults
	}
	b.InterfaceName = checked(&faults, spec.ParseName, "interfaceName", name)
	b.ContainerID = checked(&faults, spec.ParseID[spec.ContainerID], "containerId", container)
	if err := b.Port.Check(); err != nil {
		faults.addValue(err)
		b.Port = spec.Port{}
	}
	return b, faults
}

// PlainPort is the document that a Reader may return for a plain port, a port binding that names no container: see
// ReducePort. Its content has no meaning.
var PlainPort = &Document{JSON: []byte("{}")}

// ReducePort returns PlainPort if the document is a plain port with the ids of its key and without faults of form, and
// the document itself otherwise. A host may have very many plain ports, and their documents are not used, so this saves
// memory.
func ReducePort(d *Document, host spec.HostID, port spec.PortID) *Document {
	if b, faults := d.Binding(host, port); b.Bound || len(faults.Form) > 0 {
		return d
	}
	return PlainPort
}

// Container has the content of a service container. Values that a check refused are empty.
type Container struct {
	ServiceType     spec.ServiceType
	GroupID         spec.GroupID
	ConfigurationID spec.ConfigurationID
	PortID          spec.PortID // "": not set
	Missing         []string    // the required keys that are not set
}

// Container reads the document as a service container. A required key that is not set is no fault, but listed in
// Missing.
func (d *Document) Container(id spec.ContainerID) (c Container, faults Faults) {
	var inside, serviceType, group, configuration, port string
	faults = d.decode([]field{
		{"id", &inside}, {"serviceType", &serviceType}, {"groupId", &group},
		{"configurationId", &configuration}, {"portId", &port},
	})
	faults.checkID("id", inside, string(id))
	c.ServiceType = required(&c, &faults, spec.ParseServiceType, "serviceType", serviceType)
	c.GroupID = required(&c, &faults, spec.ParseID[spec.GroupID], "groupId", group)
	c.ConfigurationID = required(&c, &faults, spec.ParseID[spec.ConfigurationID], "configurationId", configuration)
	if port != "" {
		c.PortID = checked(&faults, spec.ParseID[spec.PortID], "portId", port)
	}
	return c, faults
}

// required returns the checked value of a required key, or adds the key to c.Missing if it is not set.
func required[T ~string](c *Container, faults *Faults, parse func(key, value string) (T, error), key, value string) T {
	if value == "" {
		c.Missing = append(c.Missing, key)
		return ""
	}
	return checked(faults, parse, key, value)
}

// Group is a group of hosts from which the scheduler selects one for a container.
type Group struct {
	ID      spec.GroupID
	Policy  string
	HostIDs []spec.HostID
}

// Group reads the document as a group.
func (d *Document) Group(id spec.GroupID) (Group, Faults) {
	var inside string
	var hosts []string
	group := Group{ID: id}
	faults := d.decode([]field{{"id", &inside}, {"policy", &group.Policy}, {"hostIds", &hosts}})
	faults.checkID("id", inside, string(id))
	if group.Policy != "leastContainers" && group.Policy != "weighted" {
		faults.addValue(&spec.Fault{Key: "policy", Value: group.Policy, Allowed: "leastContainers, weighted"})
	}
	for _, host := range hosts {
		if id := checked(&faults, spec.ParseID[spec.HostID], "hostIds", host); id != "" {
			group.HostIDs = append(group.HostIDs, id)
		}
	}
	return group, faults
}

// Configuration returns the configuration as it is passed to the plugin, which checks its content. If it has an id,
// that must be the id of the key. The fault does not contain the wrong id.
func (d *Document) Configuration(id spec.ConfigurationID) (json.RawMessage, Faults) {
	var faults Faults
	if raw, ok := d.members["id"]; ok && string(raw) != "null" {
		var inside string
		if json.Unmarshal(raw, &inside) != nil || inside != string(id) {
			faults.checkID("id", "another", string(id))
		}
	}
	return d.JSON, faults
}
