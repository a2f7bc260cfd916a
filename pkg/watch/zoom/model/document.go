package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
)

// document is a JSON object that keeps the order of its keys and the original text of its values.
type document struct{ members []jsonform.Member }

var errNotJSON = errors.New("is not one JSON object: allowed: JSON as mn-conf writes it, " +
	"without the comments and substitutions of HOCON")

// parseDocument parses the data of a settings node. MidoNet writes HOCON rendered as JSON; other HOCON is refused.
// Empty data yields an empty document. So does null, with which HOCON hides the settings below a key.
func parseDocument(data []byte) (*document, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return new(document), nil
	}
	members, err := jsonform.Members(data)
	if err != nil {
		return nil, errNotJSON
	}
	return &document{members}, nil
}

// get returns the value at a path, with the rules of HOCON: of two members with the same key the later one counts,
// but two objects are merged.
func (d *document) get(path []string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(d.members) {
		if m.Key != path[0] {
			continue
		}
		if len(path) == 1 {
			return m.Value, true
		}
		inner, err := parseDocument(m.Value)
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
		if m.Key == path[0] {
			at = i
		}
	}
	if at < 0 {
		at = len(d.members)
		d.members = append(d.members, jsonform.Member{Key: path[0]})
	}
	if len(path) > 1 {
		inner, err := parseDocument(d.members[at].Value)
		if err != nil {
			inner = new(document)
		}
		inner.set(path[1:], value)
		value = inner.compact()
	}
	d.members[at].Value = value
}

// compact renders the document as JSON without white space between the members.
func (d *document) compact() json.RawMessage { return jsonform.Object(d.members) }

// print renders the document with indentation, as the agent's tools do.
func (d *document) print() []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, d.compact(), "", strings.Repeat(" ", 4)); err != nil {
		panic(err) // cannot happen: every part was parsed as JSON
	}
	out.WriteByte('\n')
	return out.Bytes()
}
