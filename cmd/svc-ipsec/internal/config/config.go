// Package config reads the `configuration` document of an IPSEC container and says what it means.
//
// It promises that every value it hands on is checked: nothing of it can end a line, leave a word or name a path in a
// file that another room writes. A fault inside one connection refuses that connection alone, with a reason that names
// the key, the value and what is allowed; a fault of the document itself refuses the document. Secrets are in no fault.
//
// It does no I/O and looks up no name: what a document only points at (a key or a certificate in a file,
// a peer's address behind a name) is handed in as Found.
package config

import (
	"encoding/json"
	"net"
	"net/netip"
	"strconv"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The limits of one document: what a hostile one may cost.
const (
	maxConnections = 256
	maxCIDRs       = 64  // on a side of a connection
	maxPairs       = 256 // of a connection
	// maxAllPairs is of all connections. Each is a conn of the daemon, and its status a page of text: twice as many take the
	// whole time of a verb.
	maxAllPairs = 2048
)

// Configuration is a document that was read.
type Configuration struct {
	ID          string
	ExternalIPs []netip.Addr // at most one of each family
	ExternalMAC net.HardwareAddr
	Connections []Connection // in the document's order, the refused and the administratively down ones too
	// Loaded are the conns that the daemon has, by their names; the caller sets it before Resolve.
	Loaded map[string]Networks
	Found  Found // what the document points at
	// Inside are the addresses of the container besides ExternalIPs; the caller sets them before Resolve.
	Inside []netip.Addr
	// Accepted reports whether a connection runs though it has faults that earlier releases accepted: for one release, connections
	// that had them before go on with a warning. The caller sets it before Resolve; nil: none does.
	Accepted func(*Connection) bool
}

var configurationKeys = []string{"id", "name", "description", "externalIps", "externalMac", "connections"}

// Decode reads a document. An empty one is a container with nothing to run.
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
			return nil, &spec.Fault{Key: key, Value: value, Allowed: "at most one address of each family, not a loopback or link-local one"}
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
		list[i].decode(placeOf(i), item)
	}
	return list, nil
}

// placeOf is the key of a connection in its document.
func placeOf(i int) string { return "configuration.connections[" + strconv.Itoa(i) + "]" }

// External returns the external address of the same family as a, or the zero address.
func (c *Configuration) External(a netip.Addr) netip.Addr {
	for _, ip := range c.ExternalIPs {
		if ip.Is4() == a.Is4() {
			return ip
		}
	}
	return netip.Addr{}
}

// Wanted lists the connections to run: up and not refused.
func (c *Configuration) Wanted() []*Connection {
	var wanted []*Connection
	for i := range c.Connections {
		if c.Connections[i].Up && c.Connections[i].Refused == nil {
			wanted = append(wanted, &c.Connections[i])
		}
	}
	return wanted
}
