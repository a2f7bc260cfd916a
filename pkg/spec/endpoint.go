package spec

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

// Endpoint is one external address of a container with its MAC and one address of its port. If two containers have the
// same endpoint, packets reach one or the other. The MAC is "" if the configuration has none.
type Endpoint struct {
	ExternalIP, ExternalMAC, PortAddress string
}

// Endpoints returns the endpoints of a container in a canonical form: each address in externalIps of its configuration
// with externalMac, combined with each address of its port. It returns nil if these members are missing or have the
// wrong type. It also returns nil if the configuration has a list of connections and none of them is administratively
// up, because such a container uses no address.
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
				endpoint := Endpoint{ip.String(), strings.ToLower(external.MAC), prefix.Addr().String()}
				endpoints = append(endpoints, endpoint)
			}
		}
	}
	return endpoints
}

// isUp reports whether a connection is administratively up. A connection without adminStateUp, or one that cannot be
// decoded, counts as up.
func isUp(connection json.RawMessage) bool {
	var c struct {
		Up *bool `json:"adminStateUp"`
	}
	return json.Unmarshal(connection, &c) != nil || c.Up == nil || *c.Up
}

// String returns the external address, the MAC if there is one, and the port address as one line of text.
func (e Endpoint) String() string {
	text := "external IP " + e.ExternalIP
	if e.ExternalMAC != "" {
		text += ", MAC " + plain(e.ExternalMAC)
	}
	return text + " and port address " + e.PortAddress
}
