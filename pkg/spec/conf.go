package spec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// CNIVersion is the version of the CNI specification that the supervisor speaks.
const CNIVersion = "1.1.0"

// ContractVersion is the version of the contract between supervisor and executables (docs/executables.md).
const ContractVersion = 1

// Container says which container is meant, in the words of the NSDB.
type Container struct {
	PortID          PortID          `json:"portId"`
	HostID          HostID          `json:"hostId,omitempty"`
	InterfaceName   Name            `json:"interfaceName"`
	ContainerID     ContainerID     `json:"containerId"`
	ServiceType     ServiceType     `json:"serviceType"`
	GroupID         GroupID         `json:"groupId,omitempty"`
	ConfigurationID ConfigurationID `json:"configurationId"`
}

// Check checks every id and name. The first fault is returned, with its key.
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

// Port is what the container's interface connects to: the router's side of the veth.
type Port struct {
	Addresses []string `json:"addresses,omitempty"` // with prefix length, at most one of each family
	MAC       string   `json:"mac,omitempty"`
	Bridge    string   `json:"bridge,omitempty"` // a Linux bridge that the host-side veth joins
}

// Check checks addresses, MAC and bridge. The first fault is returned, with its key.
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
			return &Fault{"addresses", s, "an address whose successor is a host of the same subnet: the container gets that one"}
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

// Conf is the network configuration that a service executable reads from stdin (CNI 1.1, "Execution Protocol"), as the
// supervisor writes it. It carries secrets: it is never logged.
type Conf struct {
	CNIVersion    string          `json:"cniVersion"`
	Name          string          `json:"name"`
	Type          string          `json:"type"`
	Container     *Container      `json:"container,omitempty"`
	Port          *Port           `json:"port,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`
	PrevResult    json.RawMessage `json:"prevResult,omitempty"`
	// LastValid is the last valid configuration: for ADD of an executable that asks for it, {} if there is none.
	LastValid json.RawMessage `json:"lastValid,omitempty"`

	ValidAttachments *[]Attachment `json:"cni.dev/valid-attachments,omitempty"` // GC alone; nil: the key is absent
}

// Attachment names one attachment that GC keeps (CNI 1.1, GC).
type Attachment struct {
	ContainerID ContainerID `json:"containerID"`
	IfName      string      `json:"ifname"`
}

// Digest is the SHA-256, in hex, over the canonical JSON (keys sorted, no white space, numbers as written) of port,
// configuration and container, the latter without group and host id: what makes two configurations the same for the
// container. A change of the group alone changes nothing that runs.
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
	canonical, err := canonicalJSON(plain)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

func canonicalJSON(plain []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return json.Marshal(value)
}
