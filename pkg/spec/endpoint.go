package spec

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

// Endpoint is one external address of a container with the MAC that belongs to it and one address of its port. No two containers
// can have the same: packets would reach either of them. The MAC is "" where the configuration has none.
type Endpoint struct {
	ExternalIP, ExternalMAC, PortAddress string
}

// Endpoints returns the endpoints of a container, made of its port and the members externalIps and externalMac of its configuration,
// in a canonical form. A configuration without these members, or in which they have another form, has none; nor has one with a list
// of connections of which none is up, because its container uses no address.
func Endpoints(port Port, configuration json.RawMessage) (endpoints []Endpoint) {
	var external struct {
		IPs         []string          `json:"externalIps"`
		MAC         string            `json:"externalMac"`
		Connections []json.RawMessage `json:"connections"`
	}
	if len(port.Addresses) == 0 || json.Unmarshal(configuration, &external) != nil {
		return nil
	}
	if external.Connections != nil && !slices.ContainsFunc(external.Connections, isUp) {
		return nil
	}
	for _, text := range external.IPs {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		for _, cidr := range port.Addresses {
			if prefix, err := netip.ParsePrefix(cidr); err == nil {
				endpoints = append(endpoints, Endpoint{ip.String(), strings.ToLower(external.MAC), prefix.Addr().String()})
			}
		}
	}
	return endpoints
}

// isUp reports whether a connection is up, as one is that does not tell.
func isUp(connection json.RawMessage) bool {
	var c struct {
		Up *bool `json:"adminStateUp"`
	}
	return json.Unmarshal(connection, &c) != nil || c.Up == nil || *c.Up
}

// String names the three in one line.
func (e Endpoint) String() string {
	text := "external IP " + e.ExternalIP
	if e.ExternalMAC != "" {
		text += ", MAC " + plain(e.ExternalMAC)
	}
	return text + " and port address " + e.PortAddress
}
