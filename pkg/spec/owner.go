package spec

import "strings"

// Network is the CNI network name of the containers that the supervisor makes. NetworkByHand is the network name of
// those that `svc-supervisor exec` makes. The network name is the first part of an owner tag.
const (
	Network       = "svc-supervisor"
	NetworkByHand = "by-hand"
)

// InterfaceInside is the name of the container's interface in its network namespace.
const InterfaceInside = "svc0"

// Owner is a parsed owner tag. It identifies the network and the container for which a namespace, a veth or a unit was
// made.
type Owner struct {
	Network     string
	Name        Name
	ContainerID ContainerID
}

// UnfinishedGroup returns the link group (IFLA_GROUP) that a container's link on the host has from its creation until
// it gets its owner tag. The kernel accepts a group in the message that creates a link, but ignores an alias there. If
// a link in this group has the name of a container and no alias, it belongs to that container: a process was killed
// between the two messages.
func UnfinishedGroup(network string) uint32 {
	if network == Network {
		return 0x53564301
	}
	return 0x53564302
}

// OwnerEnvironment is the environment variable that contains the owner tag in Environment= of a unit.
const OwnerEnvironment = "SVC_OWNER"

// String returns the owner tag as it is written to a link alias: <network>:<name>:<container id>. For network
// names of up to 150 bytes it is shorter than the kernel's limit of 256 bytes for an alias (IFALIASZ).
func (o Owner) String() string {
	return o.Network + ":" + string(o.Name) + ":" + string(o.ContainerID)
}

// ParseOwner parses an owner tag. It returns false for a string that String cannot have returned.
func ParseOwner(tag string) (Owner, bool) {
	parts := strings.Split(tag, ":")
	if len(parts) != 3 || parts[0] == "" {
		return Owner{}, false
	}
	name, err := ParseName("name", parts[1])
	if err != nil {
		return Owner{}, false
	}
	id, err := ParseID[ContainerID]("containerId", parts[2])
	if err != nil {
		return Owner{}, false
	}
	return Owner{parts[0], name, id}, true
}

// Ours reports whether the tag belongs to the supervisor's container of this name. The container id is not compared,
// because DEL also removes what an earlier container of this name has left.
func (o Owner) Ours(name Name) bool {
	return o.Network == Network && o.Name == name
}
