// Package config decodes and validates the `configuration` document of an IPSEC container.
//
// Every value that it returns has been checked. Other packages write these values to configuration files, so no value
// may end a line, split into two words, or change a path. A fault inside one connection refuses only that connection,
// with a reason that contains the key, the value and the allowed values. A fault of the document itself refuses the
// document. Faults never contain secrets.
//
// The package does no I/O and resolves no names. The caller reads the files and resolves the peer names that a document
// references, and passes the results as Found.
package config

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The limits of one document bound the time and memory that a hostile document can use.
const (
	maxConnections = 256
	maxCIDRs       = 64  // on one side of a connection
	maxPairs       = 256 // of one connection
	// maxAllPairs limits the pairs of all connections together. The daemon has one conn for each pair, and its status
	// output for a conn is a page of text. With twice as many pairs, reading the status takes the whole deadline of a
	// verb.
	maxAllPairs = 2048
)

// Configuration is a decoded document.
type Configuration struct {
	ID          string
	ExternalIPs []netip.Addr // at most one of each family
	ExternalMAC net.HardwareAddr
	Connections []Connection // in the order of the document, including refused and administratively down ones
	// Loaded holds the conns that the daemon has loaded, by name. The caller sets it before Resolve.
	Loaded map[string]Networks
	// Found holds the contents of the files and the addresses of the names that the document references. The caller
	// sets it before Resolve.
	Found Found
	// InternalAddresses lists the addresses of the container besides ExternalIPs. The caller sets it before Resolve.
	InternalAddresses []netip.Addr
	// Accepted reports whether a connection may run although it has faults that release 0.1.0 accepted. For one
	// release, connections that had these faults before keep running with a warning. The caller sets it before Resolve.
	// If it is nil, all such connections are refused.
	Accepted func(*Connection) bool
}

var configurationKeys = []string{"id", "name", "description", "externalIps", "externalMac", "connections"}

// Decode decodes a document. A missing or empty document is valid: the container then has no connections. The error is
// a fault of the document as a whole. The fault of a single connection is in its Refused.
func Decode(raw json.RawMessage) (*Configuration, error) {
	const key = "configuration"
	c := new(Configuration)
	if absent(raw) {
		return c, nil
	}
	fields, err := object(key, raw, configurationKeys)
	if err != nil {
		return nil, err
	}
	if c.ID, err = text(key+".id", fields["id"]); err != nil {
		return nil, err
	}
	for _, free := range []string{"name", "description"} {
		if _, err := text(key+"."+free, fields[free]); err != nil {
			return nil, err
		}
	}
	if c.ExternalIPs, err = externalIPs(key+".externalIps", fields["externalIps"]); err != nil {
		return nil, err
	}
	if mac, err := text(key+".externalMac", fields["externalMac"]); err != nil {
		return nil, err
	} else if mac != "" {
		if c.ExternalMAC, err = spec.ParseMAC(key+".externalMac", mac); err != nil {
			return nil, err
		}
	}
	c.Connections, err = connections(key+".connections", fields["connections"])
	return c, err
}

func externalIPs(key string, raw json.RawMessage) ([]netip.Addr, error) {
	values, err := texts(key, raw, 2)
	if err != nil {
		return nil, err
	}
	var ips []netip.Addr
	seen := map[bool]bool{}
	for _, value := range values {
		ip, err := spec.ParseAddress(key, value)
		if err != nil {
			return nil, err
		}
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() || seen[ip.Is4()] {
			return nil, &spec.Fault{
				Key: key, Value: value,
				Allowed: "at most one address of each family, not a loopback or link-local one",
			}
		}
		seen[ip.Is4()] = true
		ips = append(ips, ip)
	}
	return ips, nil
}

func connections(key string, raw json.RawMessage) ([]Connection, error) {
	items, err := array(key, raw, maxConnections)
	if err != nil {
		return nil, err
	}
	list := make([]Connection, len(items))
	for i, item := range items {
		decodeConnection(&list[i], placeOf(i), item)
	}
	return list, nil
}

// placeOf returns the key of the connection with index i in the document.
func placeOf(i int) string { return "configuration.connections[" + strconv.Itoa(i) + "]" }

// External returns the external address of the same family as a, or the zero address if there is none.
func (c *Configuration) External(a netip.Addr) netip.Addr {
	for _, ip := range c.ExternalIPs {
		if ip.Is4() == a.Is4() {
			return ip
		}
	}
	return netip.Addr{}
}

// Wanted lists the connections to run: those that are administratively up and not refused.
func (c *Configuration) Wanted() []*Connection {
	var wanted []*Connection
	for i := range c.Connections {
		if c.Connections[i].Up && c.Connections[i].Refused == nil {
			wanted = append(wanted, &c.Connections[i])
		}
	}
	return wanted
}

// Faults lists the faults of all refused connections: the reasons for which Resolve refused each of them, and the
// faults that release 0.1.0 accepted. The caller must have called Resolve.
func (c *Configuration) Faults() []error {
	var faults []error
	for i := range c.Connections {
		connection := &c.Connections[i]
		if connection.Refused == nil {
			continue
		}
		list := slices.Clone(connection.faults)
		if len(list) == 0 {
			list = []error{connection.Refused}
		}
		for _, fault := range connection.legacyFaults(c) {
			if fault.Error() != connection.Refused.Error() {
				list = append(list, fault)
			}
		}
		faults = append(faults, list...)
	}
	return faults
}
