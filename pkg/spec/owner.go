package spec

import "strings"

// Network is the CNI network name of all containers that the supervisor makes; NetworkByHand of those that
// `svc-supervisor exec` makes. The first word of an owner tag tells them apart.
const (
	Network       = "svc-supervisor"
	NetworkByHand = "by-hand"
)

// InterfaceInside is the interface's name in every container's namespace.
const InterfaceInside = "svc0"

// Owner is an owner tag taken apart: who made a namespace, a veth or a unit, and for which container.
type Owner struct {
	Network     string
	Name        Name
	ContainerID ContainerID
}

// UnfinishedGroup is the group (IFLA_GROUP) that a container's link on the host has from its creation until it gets its owner
// tag. The kernel takes a group in the message that makes a link, and ignores an alias there. A link of the group without an alias
// that has a container's name is that container's: it was left by a process that was killed between the two messages.
func UnfinishedGroup(network string) uint32 {
	if network == Network {
		return 0x53564301
	}
	return 0x53564302
}

// OwnerEnvironment is the variable that carries the owner tag in a unit's Environment=.
const OwnerEnvironment = "SVC_OWNER"

// String is the tag as it stands in a link alias: svc-supervisor:<name>:<container id>. It stays below the kernel's limit
// of 256 bytes for an alias (IFALIASZ) for every network name that CNI allows up to 150 bytes.
func (o Owner) String() string {
	return o.Network + ":" + string(o.Name) + ":" + string(o.ContainerID)
}

// ParseOwner reads a tag back; false for anything that no String made.
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

// Ours says whether the tag is the supervisor's for this name; the container id does not matter (contract: DEL).
func (o Owner) Ours(name Name) bool {
	return o.Network == Network && o.Name == name
}
