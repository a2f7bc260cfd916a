package native

import "github.com/svc-supervisor/svc-supervisor/pkg/spec"

// Key is the key of an object below the prefix of the NSDB, for example `bindings/<hostId>/<portId>`. The functions of
// this package that build keys do not check the ids, so callers must have checked them.
type Key string

// The first parts of keys.
const (
	Hosts          = "hosts"
	Bindings       = "bindings"
	Containers     = "containers"
	Groups         = "groups"
	Configurations = "configurations"
	Config         = "config"
	Status         = "status"
)

// HostKey returns the key of the Host object of a host.
func HostKey(id spec.HostID) Key { return Key(Hosts + "/" + id) }

// BindingsKey returns the directory of the port bindings of a host.
func BindingsKey(host spec.HostID) Key { return Key(Bindings + "/" + host) }

// BindingKey returns the key of a port binding.
func BindingKey(host spec.HostID, port spec.PortID) Key {
	return BindingsKey(host) + Key("/"+port)
}

// ContainerKey returns the key of a service container.
func ContainerKey(id spec.ContainerID) Key { return Key(Containers + "/" + id) }

// GroupKey returns the key of a group.
func GroupKey(id spec.GroupID) Key { return Key(Groups + "/" + id) }

// ConfigurationKey returns the key of a configuration.
func ConfigurationKey(id spec.ConfigurationID) Key { return Key(Configurations + "/" + id) }

// SettingsKey returns the key of the settings of a scope.
func SettingsKey(scope spec.SettingScope) Key {
	if scope == spec.SettingDefault {
		return Config + "/" + Key(scope)
	}
	return Config + "/" + Hosts + Key("/"+scope)
}

// HostStatusKey returns the key of the status of a host.
func HostStatusKey(id spec.HostID) Key { return Key(Status + "/hosts/" + id) }

// ContainerStatusesKey returns the directory of the statuses that a host publishes for its containers.
func ContainerStatusesKey(host spec.HostID) Key { return Key(Status + "/containers/" + host) }

// ContainerStatusKey returns the key of the status that a host publishes for a container.
func ContainerStatusKey(host spec.HostID, id spec.ContainerID) Key {
	return ContainerStatusesKey(host) + Key("/"+id)
}
