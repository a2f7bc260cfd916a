package config

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

// Revision is a document in which each refused connection can be replaced by its last valid form, so that a typing error in an
// edit does not stop a connection that runs.
type Revision struct {
	// Edits are the refused edits: why, by the place of the connection.
	Edits map[string]string

	document json.RawMessage
	fields   map[string]json.RawMessage
	given    []json.RawMessage // the connections as they were given
	ids      []string          // of given, "" if the id cannot be read
	names    []string          // of given
	items    []json.RawMessage // given, less what is replaced
	last     []lastConnection
}

// lastConnection is a connection of the last valid document.
type lastConnection struct {
	id, name string
	index    int // in that document
	raw      json.RawMessage
}

// NewRevision reads a document. The error is a fault of the document as a whole. lastValid is the last valid document, or nil. A
// connection in it that is refused counts as absent.
func NewRevision(document, lastValid json.RawMessage) (*Revision, error) {
	c, err := Decode(document)
	if err != nil {
		return nil, err
	}
	r := &Revision{Edits: map[string]string{}, document: document}
	r.fields, r.given = connectionsOf(document)
	r.items = slices.Clone(r.given)
	for i := range c.Connections {
		r.ids, r.names = append(r.ids, c.Connections[i].ID), append(r.names, c.Connections[i].Name)
	}
	last, err := Decode(lastValid)
	if err != nil {
		return r, nil // it was valid for another release
	}
	_, items := connectionsOf(lastValid)
	for i := range last.Connections {
		if connection := &last.Connections[i]; connection.Refused == nil {
			r.last = append(r.last, lastConnection{connection.ID, connection.Name, i, items[i]})
		}
	}
	return r, nil
}

// connectionsOf takes a document apart that Decode accepts.
func connectionsOf(document json.RawMessage) (fields map[string]json.RawMessage, items []json.RawMessage) {
	_ = json.Unmarshal(document, &fields)
	_ = json.Unmarshal(fields["connections"], &items)
	return fields, items
}

// Configuration decodes the document as it is now.
func (r *Revision) Configuration() (*Configuration, error) { return Decode(r.Document()) }

// Standing returns how a connection of the document compares with the last valid document: for a container of which nothing runs,
// because it is made again.
func (r *Revision) Standing(c *Connection) Standing {
	for i := range r.items {
		if placeOf(i) != c.place {
			continue
		}
		for _, last := range r.last {
			switch {
			case sameJSON(last.raw, r.items[i]):
				return Unchanged
			case r.ids[i] != "" && last.id == r.ids[i]:
				return Edited
			}
		}
	}
	return New
}

// Document returns the document as it is now. It is the given one as long as nothing was replaced.
func (r *Revision) Document() json.RawMessage {
	if len(r.Edits) == 0 {
		return r.document
	}
	return written(r.fields, r.items)
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
	return written(r.fields, valid)
}

func written(fields map[string]json.RawMessage, items []json.RawMessage) json.RawMessage {
	all := map[string]json.RawMessage{}
	for key, value := range fields {
		all[key] = value
	}
	all["connections"] = marshal(items)
	return marshal(all)
}

// marshal writes values that were JSON before, and so cannot fail.
func marshal(value any) json.RawMessage {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
	return bytes.TrimSpace(text.Bytes())
}

// Revert replaces each connection that c refuses by its last valid form, and reports whether there was any to replace. c must
// be decoded from Document. What it refuses has not changed since it was valid is left as it is.
func (r *Revision) Revert(c *Configuration) bool {
	reverted := false
	for i := range c.Connections {
		connection := &c.Connections[i]
		if _, before := r.Edits[connection.place]; before || connection.Refused == nil {
			continue
		}
		last := r.lastOf(i, c)
		if last == nil || sameJSON(last, r.given[i]) {
			continue
		}
		r.Edits[connection.place] = connection.Refused.Error()
		r.items[i], reverted = last, true
	}
	return reverted
}

// lastOf finds the last valid form of a connection: by its id, or, where the id itself cannot be read, by its name or its place
// in the list, if no other connection has the id of that one.
func (r *Revision) lastOf(i int, c *Configuration) json.RawMessage {
	if id := r.ids[i]; id != "" {
		for j := range r.ids {
			if j != i && r.ids[j] == id && (c.Connections[j].Refused == nil || j < i) {
				return nil // that one is the connection, and this one a copy
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

// sameJSON says whether two texts hold the same value.
func sameJSON(a, b json.RawMessage) bool {
	return bytes.Equal(canonical(a), canonical(b))
}

func canonical(raw json.RawMessage) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return raw
	}
	return marshal(value)
}

// Accepted returns what Configuration.Accepted is for an ADD after which lastValid was the last valid document: true for a
// connection whose every fault that earlier releases accepted stands in its last valid form too.
func Accepted(lastValid json.RawMessage, inside []netip.Addr) func(*Connection) bool {
	known := map[string]map[string]bool{}
	if last, err := Decode(lastValid); err == nil {
		last.Inside = inside
		for i := range last.Connections {
			connection := &last.Connections[i]
			if connection.Refused != nil || known[connection.ID] != nil {
				continue
			}
			known[connection.ID] = map[string]bool{}
			for _, fault := range connection.newFaults(last) {
				known[connection.ID][connection.relative(fault)] = true
			}
		}
	}
	return func(c *Connection) bool {
		for _, fault := range c.newFaults(c.of) {
			if !known[c.ID][c.relative(fault)] {
				return false
			}
		}
		return true
	}
}

// relative is a fault without the place of its connection, which another edit may move.
func (c *Connection) relative(err error) string { return strings.ReplaceAll(err.Error(), c.place, "") }
