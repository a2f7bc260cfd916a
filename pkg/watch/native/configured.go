package native

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Configured is the configuration of a container as the plugin of its service type gets it.
type Configured struct {
	Key  Key // of the configuration
	Conf *spec.Conf
}

// unbound replaces the host id, port id and name of a container without a port binding.
const unbound = "unbound"

// ListConfigured returns the configurations of containers, once for each port binding of the container, sorted by key.
// It ignores objects with faults.
func ListConfigured(documents map[Key]*Document) []Configured {
	bindings := map[spec.ContainerID][]spec.Binding{}
	for _, key := range slices.Sorted(maps.Keys(documents)) {
		parts := strings.Split(string(key), "/")
		if len(parts) != 3 || parts[0] != Bindings {
			continue
		}
		host, port := spec.HostID(parts[1]), spec.PortID(parts[2])
		parsed, faults := documents[key].Binding(host, port)
		if len(faults.All()) > 0 || !parsed.Bound {
			continue
		}
		bindings[parsed.ContainerID] = append(bindings[parsed.ContainerID], spec.Binding{
			PortID: port, Port: parsed.Port,
			Container: spec.Container{
				PortID: port, HostID: host, InterfaceName: parsed.InterfaceName, ContainerID: parsed.ContainerID,
			},
		})
	}
	var list []Configured
	for key, document := range documents {
		directory, id, _ := strings.Cut(string(key), "/")
		if directory != Containers {
			continue
		}
		parsed, faults := document.Container(spec.ContainerID(id))
		named := documents[ConfigurationKey(parsed.ConfigurationID)]
		if len(faults.All()) > 0 || len(parsed.Missing) > 0 || named == nil {
			continue
		}
		configuration, faults := named.Configuration(parsed.ConfigurationID)
		if len(faults.All()) > 0 {
			continue
		}
		bound := bindings[spec.ContainerID(id)]
		if len(bound) == 0 {
			bound = []spec.Binding{{Container: spec.Container{
				PortID: cmp.Or(parsed.PortID, unbound), HostID: unbound,
				InterfaceName: unbound, ContainerID: spec.ContainerID(id),
			}}}
		}
		for _, b := range bound {
			b.Container.ServiceType = parsed.ServiceType
			b.Container.GroupID = parsed.GroupID
			b.Container.ConfigurationID = parsed.ConfigurationID
			b.Configuration = configuration
			list = append(list, Configured{ConfigurationKey(parsed.ConfigurationID), b.Conf(spec.Network, "")})
		}
	}
	slices.SortFunc(list, func(a, b Configured) int {
		return cmp.Or(
			cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Conf.Container.ContainerID, b.Conf.Container.ContainerID),
			cmp.Compare(a.Conf.Container.HostID, b.Conf.Container.HostID),
			cmp.Compare(a.Conf.Container.PortID, b.Conf.Container.PortID),
		)
	})
	return list
}
