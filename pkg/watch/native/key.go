package native

import "github.com/svc-supervisor/svc-supervisor/pkg/spec"

// Key is an object's key below the prefix, `bindings/<hostId>/<portId>`. Whoever makes one has checked the ids.
type Key string

// The folders below the prefix.
const (
	Hosts          = "hosts"
	Bindings       = "bindings"
	Containers     = "containers"
	Groups         = "groups"
	Configurations = "configurations"
	Config         = "config"
	Status         = "status"
)

// HostKey is the key of a host's own object.
func HostKey(id spec.HostID) Key { return Key(Hosts + "/" + id) }

// BindingsKey is the folder of a host's port bindings.
func BindingsKey(host spec.HostID) Key { return Key(Bindings + "/" + host) }

// BindingKey is the key of a port binding.
func BindingKey(host spec.HostID, port spec.PortID) Key {
	return BindingsKey(host) + Key("/"+port)
}

// ContainerKey is the key of a service container.
func ContainerKey(id spec.ContainerID) Key { return Key(Containers + "/" + id) }

// GroupKey is the key of a group.
func GroupKey(id spec.GroupID) Key { return Key(Groups + "/" + id) }

// ConfigurationKey is the key of a configuration.
func ConfigurationKey(id spec.ConfigurationID) Key { return Key(Configurations + "/" + id) }

// SettingsKey is the key of a scope's settings.
func SettingsKey(scope spec.SettingScope) Key {
	if scope == spec.SettingDefault {
		return Config + "/" + Key(scope)
	}
	return Config + "/" + Hosts + Key("/"+scope)
}

// HostStatusKey is the key of a host's status.
func HostStatusKey(id spec.HostID) Key { return Key(Status + "/hosts/" + id) }

// ContainerStatusesKey is the folder of the statuses that a host publishes for its containers.
func ContainerStatusesKey(host spec.HostID) Key { return Key(Status + "/containers/" + host) }

// ContainerStatusKey is the key of a container's status.
func ContainerStatusKey(host spec.HostID, id spec.ContainerID) Key {
	return ContainerStatusesKey(host) + Key("/"+id)
}
