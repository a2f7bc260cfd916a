package native

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Configured is the configuration of a container, with what the executable of its type gets beside it.
type Configured struct {
	Key  Key // of the configuration
	Conf *spec.Conf
}

// unbound stands for the ids and the name of a container that no port binding names.
const unbound = "unbound"

// ListConfigured lists the configurations that containers name, once for each port binding of the container, sorted by key. It
// passes over objects with faults.
func ListConfigured(documents map[Key]*Document) []Configured {
	bindings := map[spec.ContainerID][]spec.Binding{}
	for _, key := range slices.Sorted(maps.Keys(documents)) {
		parts := strings.Split(string(key), "/")
		if len(parts) != 3 || parts[0] != Bindings {
			continue
		}
		host, port := spec.HostID(parts[1]), spec.PortID(parts[2])
		said, faults := documents[key].Binding(host, port)
		if len(faults.All()) > 0 || !said.Bound {
			continue
		}
		bindings[said.ContainerID] = append(bindings[said.ContainerID], spec.Binding{
			PortID: port, Port: said.Port,
			Container: spec.Container{PortID: port, HostID: host, InterfaceName: said.InterfaceName, ContainerID: said.ContainerID},
		})
	}
	var list []Configured
	for key, document := range documents {
		folder, id, _ := strings.Cut(string(key), "/")
		if folder != Containers {
			continue
		}
		said, faults := document.Container(spec.ContainerID(id))
		held := documents[ConfigurationKey(said.ConfigurationID)]
		if len(faults.All()) > 0 || len(said.Missing) > 0 || held == nil {
			continue
		}
		configuration, faults := held.Configuration(said.ConfigurationID)
		if len(faults.All()) > 0 {
			continue
		}
		bound := bindings[spec.ContainerID(id)]
		if len(bound) == 0 {
			bound = []spec.Binding{{Container: spec.Container{
				PortID: cmp.Or(said.PortID, unbound), HostID: unbound, InterfaceName: unbound, ContainerID: spec.ContainerID(id),
			}}}
		}
		for _, b := range bound {
			b.Container.ServiceType, b.Container.GroupID, b.Container.ConfigurationID = said.ServiceType, said.GroupID, said.ConfigurationID
			b.Configuration = configuration
			list = append(list, Configured{ConfigurationKey(said.ConfigurationID), b.Conf(spec.Network, "")})
		}
	}
	slices.SortFunc(list, func(a, b Configured) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Conf.Container.ContainerID, b.Conf.Container.ContainerID),
			cmp.Compare(a.Conf.Container.HostID, b.Conf.Container.HostID), cmp.Compare(a.Conf.Container.PortID, b.Conf.Container.PortID))
	})
	return list
}
