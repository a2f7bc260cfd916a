package native

import (
	"encoding/json"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Host reads a host's own object.
func (d *Document) Host(id spec.HostID) (spec.Host, Faults) {
	var inside string
	host := spec.Host{ID: id, Weight: 1, Limit: -1}
	faults := d.decode([]field{
		{"id", &inside}, {"name", &host.Name}, {"containerWeight", &host.Weight}, {"containerLimit", &host.Limit},
	})
	faults.sameID("id", inside, string(id))
	if host.Weight < 0 {
		faults.value(&spec.Fault{Key: "containerWeight", Value: strconv.Itoa(host.Weight), Allowed: "0 (no new containers) or more"})
	}
	if host.Limit < -1 {
		faults.value(&spec.Fault{Key: "containerLimit", Value: strconv.Itoa(host.Limit), Allowed: "-1 (none), 0 or more"})
	}
	return host, faults
}

// Binding is what a port binding says itself. A value that a check refused is left empty.
type Binding struct {
	Bound         bool // it names a container
	InterfaceName spec.Name
	ContainerID   spec.ContainerID
	Port          spec.Port
}

// Binding reads a port binding. The values of a plain port are not refused: its interface is somebody else's.
func (d *Document) Binding(host spec.HostID, port spec.PortID) (Binding, Faults) {
	var portID, hostID, name, container string
	var b Binding
	faults := d.decode([]field{
		{"portId", &portID}, {"hostId", &hostID}, {"interfaceName", &name}, {"containerId", &container},
		{"addresses", &b.Port.Addresses}, {"mac", &b.Port.MAC}, {"bridge", &b.Port.Bridge},
	})
	faults.sameID("portId", portID, string(port))
	faults.sameID("hostId", hostID, string(host))
	b.Bound = container != ""
	if !b.Bound {
		b.InterfaceName, _ = spec.ParseName("interfaceName", name)
		return b, faults
	}
	b.InterfaceName = keep(&faults, spec.ParseName, "interfaceName", name)
	b.ContainerID = keep(&faults, spec.ParseID[spec.ContainerID], "containerId", container)
	if err := b.Port.Check(); err != nil {
		faults.value(err)
		b.Port = spec.Port{}
	}
	return b, faults
}

// PlainPort is what a Reader may answer for a port binding that names no container: see ReducePort. Its content means nothing.
var PlainPort = &Document{JSON: []byte("{}")}

// ReducePort returns PlainPort for the document of a port binding that names no container and can be taken for what its key names,
// because nothing of it is used: a host may have very many of these. Another document is returned as it is.
func ReducePort(d *Document, host spec.HostID, port spec.PortID) *Document {
	if b, faults := d.Binding(host, port); b.Bound || len(faults.Form) > 0 {
		return d
	}
	return PlainPort
}

// Container is a service container as its object describes it. A value that a check refused is left empty.
type Container struct {
	ServiceType     spec.ServiceType
	GroupID         spec.GroupID
	ConfigurationID spec.ConfigurationID
	PortID          spec.PortID // "": not told
	Missing         []string    // the keys that a container needs and that are not set
}

// Container reads a service container. What is not set yet is no fault: Missing tells it.
func (d *Document) Container(id spec.ContainerID) (c Container, faults Faults) {
	var inside, serviceType, group, configuration, port string
	faults = d.decode([]field{
		{"id", &inside}, {"serviceType", &serviceType}, {"groupId", &group},
		{"configurationId", &configuration}, {"portId", &port},
	})
	faults.sameID("id", inside, string(id))
	c.ServiceType = told(&c, &faults, spec.ParseServiceType, "serviceType", serviceType)
	c.GroupID = told(&c, &faults, spec.ParseID[spec.GroupID], "groupId", group)
	c.ConfigurationID = told(&c, &faults, spec.ParseID[spec.ConfigurationID], "configurationId", configuration)
	if port != "" {
		c.PortID = keep(&faults, spec.ParseID[spec.PortID], "portId", port)
	}
	return c, faults
}

// told keeps a value that a container needs, or notes that it is not set.
func told[T ~string](c *Container, faults *Faults, parse func(key, value string) (T, error), key, value string) T {
	if value == "" {
		c.Missing = append(c.Missing, key)
		return ""
	}
	return keep(faults, parse, key, value)
}

// Group is a group of hosts that the scheduler chooses from.
type Group struct {
	ID      spec.GroupID
	Policy  string
	HostIDs []spec.HostID
}

// Group reads a group.
func (d *Document) Group(id spec.GroupID) (Group, Faults) {
	var inside string
	var hosts []string
	group := Group{ID: id}
	faults := d.decode([]field{{"id", &inside}, {"policy", &group.Policy}, {"hostIds", &hosts}})
	faults.sameID("id", inside, string(id))
	if group.Policy != "leastContainers" && group.Policy != "weighted" {
		faults.value(&spec.Fault{Key: "policy", Value: group.Policy, Allowed: "leastContainers, weighted"})
	}
	for _, host := range hosts {
		if id := keep(&faults, spec.ParseID[spec.HostID], "hostIds", host); id != "" {
			group.HostIDs = append(group.HostIDs, id)
		}
	}
	return group, faults
}

// Configuration returns a configuration as it is passed on. Its content is the executable's affair; an id in it must be
// the key's. The fault does not repeat what stands there.
func (d *Document) Configuration(id spec.ConfigurationID) (json.RawMessage, Faults) {
	var faults Faults
	if raw, ok := d.members["id"]; ok && string(raw) != "null" {
		var inside string
		if json.Unmarshal(raw, &inside) != nil || inside != string(id) {
			faults.sameID("id", "another", string(id))
		}
	}
	return d.JSON, faults
}
