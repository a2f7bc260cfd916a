package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// document is a JSON object that keeps the order of its keys and the original text of its values.
type document struct{ members []member }

type member struct {
	key   string
	value json.RawMessage
}

var errNotJSON = errors.New("is not one JSON object: allowed: JSON as mn-conf writes it, " +
	"without the comments and substitutions of HOCON")

// parseDocument parses the data of a settings node. MidoNet writes HOCON rendered as JSON; other HOCON is refused.
// Empty data yields an empty document. So does null, with which HOCON hides the settings below a key.
func parseDocument(data []byte) (*document, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return new(document), nil
	}
	if data[0] != '{' || !json.Valid(data) {
		return nil, errNotJSON
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if _, err := decoder.Token(); err != nil {
		return nil, errNotJSON
	}
	d := new(document)
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, errNotJSON
		}
		m := member{key: key.(string)}
		if err := decoder.Decode(&m.value); err != nil {
			return nil, errNotJSON
		}
		d.members = append(d.members, m)
	}
	return d, nil
}

// get returns the value at a path, with the rules of HOCON: of two members with the same key the later one counts,
// but two objects are merged.
func (d *document) get(path []string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(d.members) {
		if m.key != path[0] {
			continue
		}
		if len(path) == 1 {
			return m.value, true
		}
		inner, err := parseDocument(m.value)
		if err != nil {
			return nil, false // a value that is not an object hides the earlier members with this key
		}
		if value, ok := inner.get(path[1:]); ok {
			return value, true
		}
	}
	return nil, false
}

// set sets the value at a path. A value on the path that is not an object is replaced by an object.
func (d *document) set(path []string, value json.RawMessage) {
	at := -1
	for i, m := range d.members {
		if m.key == path[0] {
			at = i
		}
	}
	if at < 0 {
		at = len(d.members)
		d.members = append(d.members, member{key: path[0]})
	}
	if len(path) > 1 {
		inner, err := parseDocument(d.members[at].value)
		if err != nil {
			inner = new(document)
		}
		inner.set(path[1:], value)
		value = inner.compact()
	}
	d.members[at].value = value
}

// compact renders the document as JSON without white space between the members.
func (d *document) compact() json.RawMessage {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range d.members {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(marshal(m.key))
		out.WriteByte(':')
		out.Write(m.value)
	}
	out.WriteByte('}')
	return out.Bytes()
}

// print renders the document with indentation, as the agent's tools do.
func (d *document) print() []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, d.compact(), "", strings.Repeat(" ", 4)); err != nil {
		panic(err) // cannot happen: every part was parsed as JSON
	}
	out.WriteByte('\n')
	return out.Bytes()
}
