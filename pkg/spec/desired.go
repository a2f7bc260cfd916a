package spec

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Host is the NSDB object of this host.
type Host struct {
	ID     HostID `json:"id"`
	Name   string `json:"name,omitempty"`
	Weight int    `json:"containerWeight"` // 0: no new containers
	Limit  int    `json:"containerLimit"`  // -1: no limit
}

// Desired is the desired state of this host as read from the NSDB. It is always the complete set; bindings that could
// not be read are in it and marked by their Reading.
type Desired struct {
	Unread   string // why the host's desired state is unknown (no Host object, no connection); "" if it is known
	Host     Host
	Bindings []Binding // every binding that names a container or could not be read, sorted by port id

	// Settings are the runtime settings in effect by their canonical keys: log-level, log-level.<logger>,
	// status-interval (docs/nsdb.md). A setting of the host overrides the default's. For a setting that is absent, the
	// command line flag applies. The settings are valid and applied even if Unread is not empty.
	Settings map[string]string
}

// Reading states how much of a binding is known.
type Reading int

// The values of Reading. For all but Complete, Binding.Fault holds the reason.
const (
	Complete Reading = iota // read, complete and checked
	Unread                  // the binding itself could not be read: its name is not known
	Unknown                 // its name is known; an object that it refers to is missing or could not be read
	Refused                 // read, and refused by a check: an invalid name or id
)

// Binding is a port binding of this host together with the content of the objects that it refers to.
type Binding struct {
	PortID        PortID
	Reading       Reading
	Fault         string // one line, with the object's key; "" for Complete
	Container     Container
	Port          Port
	Configuration json.RawMessage
	// ConfigurationUnreadable is set only if Reading is Unknown. The configuration object exists but could not be
	// read, and everything else is known.
	ConfigurationUnreadable bool `json:",omitempty"`
	// Note explains, in one line with the object's key, why a complete binding has less to run than its objects ask
	// for. It is shown by ps and published; plugins do not get it.
	Note string `json:",omitempty"`
}

// Equal reports whether both hold the same desired state.
func (d *Desired) Equal(other *Desired) bool {
	same := func(a, b Binding) bool { return a.Equal(&b) }
	return d.Unread == other.Unread && d.Host == other.Host && maps.Equal(d.Settings, other.Settings) &&
		slices.EqualFunc(d.Bindings, other.Bindings, same)
}

// Equal reports whether all fields of both bindings are equal.
func (b *Binding) Equal(other *Binding) bool {
	return b.PortID == other.PortID && b.Reading == other.Reading && b.Fault == other.Fault && b.Note == other.Note &&
		b.ConfigurationUnreadable == other.ConfigurationUnreadable && b.Container == other.Container &&
		b.Port.MAC == other.Port.MAC && b.Port.Bridge == other.Port.Bridge &&
		slices.Equal(b.Port.Addresses, other.Port.Addresses) && bytes.Equal(b.Configuration, other.Configuration)
}

// Conf returns the network configuration of a binding whose Reading is Complete, for the given network name and the CNI
// type of the executable. The result shares no container and no port with the binding.
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
