package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// document is an object of JSON with its keys in their order and all else as it was written.
type document struct{ members []member }

type member struct {
	key   string
	value json.RawMessage
}

var errNotJSON = errors.New("is not one plain JSON object, without comments and substitutions: allowed: what mn-conf writes")

// parseDocument reads a node of settings. MidoNet writes HOCON rendered as JSON; other HOCON is refused. Nothing at all is an
// empty one, and null, which hides what stands under it, is too.
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

// get finds the value at a path, as HOCON does: of two members with one key the later counts, but objects are merged.
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
			return nil, false // a plain value hides what stands before it
		}
		if value, ok := inner.get(path[1:]); ok {
			return value, true
		}
	}
	return nil, false
}

// set puts a value at a path. What stands in its way, a plain value where an object is needed, is replaced.
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

// print renders the document as the agent's tools do, readable for people.
func (d *document) print() []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, d.compact(), "", strings.Repeat(" ", 4)); err != nil {
		panic(err) // each part was read as JSON
	}
	out.WriteByte('\n')
	return out.Bytes()
}
