package config

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
)

// Revision is a document in which each refused connection can be replaced by its last valid form. So a typing error in
// an edit does not stop a running connection.
type Revision struct {
	// RefusedEdits holds the reasons why edits were refused, by Connection.Place.
	RefusedEdits map[string]string

	document json.RawMessage
	fields   map[string]json.RawMessage
	given    []json.RawMessage // the connections of document
	ids      []string          // the ids of given, "" if an id is invalid
	names    []string          // the names of given, "" if a name is invalid
	items    []json.RawMessage // a copy of given in which Revert replaces connections
	last     []lastConnection
}

// lastConnection is a connection of the last valid document.
type lastConnection struct {
	id, name string
	index    int // in the last valid document
	raw      json.RawMessage
}

// NewRevision decodes a document. lastValid is the last valid document, or nil. Connections in lastValid that are
// refused are ignored. The error is a fault of document as a whole.
func NewRevision(document, lastValid json.RawMessage) (*Revision, error) {
	c, err := Decode(document)
	if err != nil {
		return nil, err
	}
	r := &Revision{RefusedEdits: map[string]string{}, document: document}
	r.fields, r.given = connectionsOf(document)
	r.items = slices.Clone(r.given)
	for i := range c.Connections {
		r.ids, r.names = append(r.ids, c.Connections[i].ID), append(r.names, c.Connections[i].Name)
	}
	last, err := Decode(lastValid)
	if err != nil {
		return r, nil // lastValid was valid for another release
	}
	_, items := connectionsOf(lastValid)
	for i := range last.Connections {
		if connection := &last.Connections[i]; connection.Refused == nil {
			r.last = append(r.last, lastConnection{connection.ID, connection.Name, i, items[i]})
		}
	}
	return r, nil
}

// connectionsOf returns the members and the connections of a document that Decode accepts.
func connectionsOf(document json.RawMessage) (fields map[string]json.RawMessage, items []json.RawMessage) {
	_ = json.Unmarshal(document, &fields)
	_ = json.Unmarshal(fields["connections"], &items)
	return fields, items
}

// Standing compares a connection of the document with the last valid document. It is used instead of a comparison with
// the running daemon when the container is created again and has no daemon.
func (r *Revision) Standing(c *Connection) Standing {
	for i := range r.items {
		if placeOf(i) != c.place {
			continue
		}
		for _, last := range r.last {
			switch {
			case jsonform.Equal(last.raw, r.items[i]):
				return Unchanged
			case r.ids[i] != "" && last.id == r.ids[i]:
				return Edited
			}
		}
	}
	return New
}

// Document returns the document with the replacements of Revert. Without replacements it is the original text.
func (r *Revision) Document() json.RawMessage {
	if len(r.RefusedEdits) == 0 {
		return r.document
	}
	return withConnections(r.fields, r.items)
}

// Valid returns the document without the connections that c, decoded from Document, refuses.
func (r *Revision) Valid(c *Configuration) json.RawMessage {
	valid := []json.RawMessage{}
	for i := range c.Connections {
		if c.Connections[i].Refused == nil {
			valid = append(valid, r.items[i])
		}
	}
	if len(valid) == len(r.items) {
		return r.Document()
	}
	return withConnections(r.fields, valid)
}

// withConnections returns a document with the members of fields, in which items are the connections.
func withConnections(fields map[string]json.RawMessage, items []json.RawMessage) json.RawMessage {
	all := map[string]json.RawMessage{}
	for key, value := range fields {
		all[key] = value
	}
	all["connections"] = marshal(items)
	return marshal(all)
}

// marshal encodes a value that was decoded from JSON, so encoding cannot fail.
func marshal(value any) json.RawMessage {
	text, _ := jsonform.Marshal(value)
	return text
}

// Revert replaces each connection that c refuses by its last valid form, and reports whether it replaced any. c must be
// decoded from Document. Revert does not replace a refused connection that is equal to its last valid form, nor one
// that it replaced before.
func (r *Revision) Revert(c *Configuration) bool {
	reverted := false
	for i := range c.Connections {
		connection := &c.Connections[i]
		if _, before := r.RefusedEdits[connection.place]; before || connection.Refused == nil {
			continue
		}
		last := r.lastOf(i, c)
		if last == nil || jsonform.Equal(last, r.given[i]) {
			continue
		}
		r.RefusedEdits[connection.place] = connection.Refused.Error()
		r.items[i], reverted = last, true
	}
	return reverted
}

// lastOf returns the last valid form of the connection with index i, or nil. It selects the form by the id of the
// connection. If the id is invalid, it selects the form by the name, or else by the index, provided that no connection
// of the document has the id of that form.
func (r *Revision) lastOf(i int, c *Configuration) json.RawMessage {
	if id := r.ids[i]; id != "" {
		for j := range r.ids {
			if j != i && r.ids[j] == id && (c.Connections[j].Refused == nil || j < i) {
				return nil // connection i is a copy of connection j
			}
		}
		for _, last := range r.last {
			if last.id == id {
				return last.raw
			}
		}
		return nil
	}
	for _, same := range []func(lastConnection) bool{
		func(last lastConnection) bool { return r.names[i] != "" && last.name == r.names[i] },
		func(last lastConnection) bool { return last.index == i },
	} {
		for _, last := range r.last {
			if same(last) && !slices.Contains(r.ids, last.id) {
				return last.raw
			}
		}
	}
	return nil
}

// Accepted returns a function for Configuration.Accepted. For a connection, this function returns true if the
// connection has no fault that release 0.1.0 accepted, except for faults that its form in lastValid has too. lastValid
// is the last valid document, and inside are the addresses of the container besides the external ones.
func Accepted(lastValid json.RawMessage, inside []netip.Addr) func(*Connection) bool {
	known := map[string]map[string]bool{}
	if last, err := Decode(lastValid); err == nil {
		last.InternalAddresses = inside
		for i := range last.Connections {
			connection := &last.Connections[i]
			if connection.Refused != nil || known[connection.ID] != nil {
				continue
			}
			known[connection.ID] = map[string]bool{}
			for _, fault := range connection.legacyFaults(last) {
				known[connection.ID][connection.withoutPlace(fault)] = true
			}
		}
	}
	return func(c *Connection) bool {
		for _, fault := range c.legacyFaults(c.of) {
			if !known[c.ID][c.withoutPlace(fault)] {
				return false
			}
		}
		return true
	}
}
