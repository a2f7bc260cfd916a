package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
)

// CNIVersion is the version of the CNI specification that the supervisor implements.
const CNIVersion = "1.1.0"

// ContractVersion is the version of the contract between supervisor and executables (docs/executables.md).
const ContractVersion = 1

// Container identifies a service container by its name and by the ids of its NSDB objects.
type Container struct {
	PortID          PortID          `json:"portId"`
	HostID          HostID          `json:"hostId,omitempty"`
	InterfaceName   Name            `json:"interfaceName"`
	ContainerID     ContainerID     `json:"containerId"`
	ServiceType     ServiceType     `json:"serviceType"`
	GroupID         GroupID         `json:"groupId,omitempty"`
	ConfigurationID ConfigurationID `json:"configurationId"`
}

// Check checks every id and name. It returns the first fault, which names the key.
func (c *Container) Check() error {
	if _, err := ParseName("interfaceName", string(c.InterfaceName)); err != nil {
		return err
	}
	if _, err := ParseServiceType("serviceType", string(c.ServiceType)); err != nil {
		return err
	}
	ids := []struct{ key, value string }{
		{"portId", string(c.PortID)},
		{"containerId", string(c.ContainerID)},
		{"configurationId", string(c.ConfigurationID)},
		{"hostId", string(c.HostID)},
		{"groupId", string(c.GroupID)},
	}
	for _, id := range ids {
		if _, err := ParseID[string](id.key, id.value); err != nil {
			return err
		}
	}
	return nil
}

// Port describes the router port that the container's interface connects to.
type Port struct {
	Addresses []string `json:"addresses,omitempty"` // with prefix length, at most one of each address family
	MAC       string   `json:"mac,omitempty"`
	Bridge    string   `json:"bridge,omitempty"` // a Linux bridge that the host-side veth joins
}

// Check checks addresses, MAC and bridge. It returns the first fault, which names the key. Each address must have a
// successor that is a host address of the same subnet, because the container gets the successor.
func (p *Port) Check() error {
	seen := map[bool]bool{}
	for _, s := range p.Addresses {
		prefix, err := ParseCIDR("addresses", s)
		if err != nil {
			return err
		}
		if seen[prefix.Addr().Is4()] {
			return &Fault{"addresses", s, "at most one address of each family"}
		}
		seen[prefix.Addr().Is4()] = true
		if prefix.Addr().IsUnspecified() || prefix.Addr().IsMulticast() {
			return &Fault{"addresses", s, cidrAllowed}
		}
		if next := prefix.Addr().Next(); !prefix.Contains(next) || isBroadcast(prefix, next) {
			return &Fault{
				"addresses", s, "an address whose successor is a host of the same subnet: the container gets that one",
			}
		}
	}
	if p.MAC != "" {
		if _, err := ParseMAC("mac", p.MAC); err != nil {
			return err
		}
	}
	if p.Bridge != "" {
		return CheckLinkName("bridge", p.Bridge)
	}
	return nil
}

// Conf is the network configuration that the supervisor writes to the stdin of a service executable (CNI 1.1,
// "Execution Protocol"). It contains secrets and is never logged.
type Conf struct {
	CNIVersion    string          `json:"cniVersion"`
	Name          string          `json:"name"`
	Type          string          `json:"type"`
	Container     *Container      `json:"container,omitempty"`
	Port          *Port           `json:"port,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`
	PrevResult    json.RawMessage `json:"prevResult,omitempty"`
	// LastValid is the last valid configuration, or {} if there is none. It is set only for ADD, and only if the
	// executable asks for it.
	LastValid json.RawMessage `json:"lastValid,omitempty"`

	ValidAttachments *[]Attachment `json:"cni.dev/valid-attachments,omitempty"` // only for GC; nil: the key is absent
}

// Attachment identifies one attachment that GC must not remove (CNI 1.1, GC).
type Attachment struct {
	ContainerID ContainerID `json:"containerID"`
	IfName      string      `json:"ifname"`
}

// Digest returns the SHA-256, in hex, of the canonical JSON (keys sorted, no white space, numbers as written) of port,
// configuration and container. The group id and the host id are left out, because a change of them does not affect the
// running container. Two configurations with the same digest need no reconfigure.
func (c *Conf) Digest() (string, error) {
	container := Container{}
	if c.Container != nil {
		container = *c.Container
	}
	container.GroupID, container.HostID = "", ""
	plain, err := json.Marshal(map[string]any{"port": c.Port, "container": container, "configuration": c.Configuration})
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	canonical, err := jsonform.Canonical(plain)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}
