package spec

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Host is this host's own object in the NSDB.
type Host struct {
	ID     HostID `json:"id"`
	Name   string `json:"name,omitempty"`
	Weight int    `json:"containerWeight"` // 0: no new containers
	Limit  int    `json:"containerLimit"`  // -1: none
}

// Desired is what the NSDB asks of this host: always the complete set, with what could not be read marked so.
type Desired struct {
	Unread   string // why nothing is known of the host ("" if it is): no Host object, no connection
	Host     Host
	Bindings []Binding // every binding that names a container or could not be read, by port id

	// Settings are the runtime settings in effect, the host's over the default's, by their canonical keys: log-level,
	// log-level.<logger>, status-interval (docs/nsdb.md). A setting that is absent here is the flag's. They stand for
	// themselves: they may be known while the host is not, and then they are followed as well.
	Settings map[string]string
}

// Reading says how much of a binding is known.
type Reading int

// What Fault explains, where it is not Whole.
const (
	Whole   Reading = iota // read, complete and checked
	Unread                 // the binding itself could not be read: its name is not known
	Unknown                // its name is known; something it refers to is missing or could not be read
	Refused                // read, and refused by a check: an invalid name or id
)

// Binding is a port binding of this host with what it refers to.
type Binding struct {
	PortID        PortID
	Reading       Reading
	Fault         string // one line, with the object's key; "" for Whole
	Container     Container
	Port          Port
	Configuration json.RawMessage
	// Misconfigured says, where Reading is Unknown, that only the configuration could not be read: it is there, and everything
	// else is known.
	Misconfigured bool `json:",omitempty"`
	// Note explains why a whole binding has less to run than its objects ask for, in one line with the object's key. It is shown and
	// published, and plugins do not get it.
	Note string `json:",omitempty"`
}

// Equal says whether two sets ask for the same.
func (d *Desired) Equal(other *Desired) bool {
	same := func(a, b Binding) bool { return a.Equal(&b) }
	return d.Unread == other.Unread && d.Host == other.Host && maps.Equal(d.Settings, other.Settings) &&
		slices.EqualFunc(d.Bindings, other.Bindings, same)
}

// Equal says whether two bindings ask for the same.
func (b *Binding) Equal(other *Binding) bool {
	return b.PortID == other.PortID && b.Reading == other.Reading && b.Fault == other.Fault && b.Note == other.Note && b.Misconfigured == other.Misconfigured && b.Container == other.Container &&
		b.Port.MAC == other.Port.MAC && b.Port.Bridge == other.Port.Bridge && slices.Equal(b.Port.Addresses, other.Port.Addresses) &&
		bytes.Equal(b.Configuration, other.Configuration)
}

// Conf makes the network configuration of a whole binding for an executable of the given CNI type and network name.
func (b *Binding) Conf(network, cniType string) *Conf {
	container, port := b.Container, b.Port
	return &Conf{
		CNIVersion:    CNIVersion,
		Name:          network,
		Type:          cniType,
		Container:     &container,
		Port:          &port,
		Configuration: b.Configuration,
	}
}
