package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// Node is one node that an import writes. If the node exists, the import replaces its data by the result of Onto.
// Otherwise it creates the node with Data. A Node without Data must not be created: it only adds references to an
// object that is not imported itself.
type Node struct {
	Path string
	Data []byte

	class   Class
	message *text.Message
	whole   bool              // the object itself is imported, not only back-references in it
	lists   []string          // fields of message with back-references, which Onto adds to those that exist
	clears  []string          // fields that Onto removes if message does not have them
	values  map[string]string // settings by canonical key, if this is a settings node; class is "" then
}

// Onto returns the data of an existing node after the import. It replaces the fields that native objects have, adds
// back-references to those that exist, and keeps everything else of the existing object or settings. An existing
// object that cannot be parsed is replaced. Settings that cannot be parsed are refused, because a settings node also
// has settings of other programs.
func (n Node) Onto(existing []byte) ([]byte, error) {
	if n.class == "" {
		return n.ontoSettings(existing)
	}
	m, err := text.Parse(existing)
	if err != nil && n.Data != nil {
		return n.Data, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Path, err)
	}
	for _, name := range fieldOrder[n.class] {
		values := n.message.All(name)
		switch {
		case slices.Contains(n.lists, name):
			values = union(m.All(name), values)
		case len(values) == 0 && !slices.Contains(n.clears, name):
			continue
		}
		setField(m, n.class, name, values)
	}
	return m.Print(), nil
}

func (n Node) ontoSettings(data []byte) ([]byte, error) {
	for _, key := range sortedKeys(n.values) {
		var err error
		if data, err = EditSetting(data, key, n.values[key]); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Path, err)
		}
	}
	return data, nil
}

// union returns ids, followed by the values of more that ids lacks.
func union(ids, more []text.Value) []text.Value {
	printed := func(v text.Value) string {
		if v.Kind != text.Nested {
			return v.Text
		}
		return string(v.Message.Print())
	}
	seen := map[string]bool{}
	for _, v := range ids {
		seen[printed(v)] = true
	}
	for _, v := range more {
		if !seen[printed(v)] {
			ids = append(ids, v)
		}
	}
	return ids
}

// setField sets the values of a field. They take the position of the first existing value, or the position that the
// order of the proto requires.
func setField(m *text.Message, class Class, name string, values []text.Value) {
	at := slices.IndexFunc(m.Fields, func(f text.Field) bool { return f.Name == name })
	m.Remove(name)
	if at < 0 {
		follows := laterThan(class, name)
		at = slices.IndexFunc(m.Fields, func(f text.Field) bool { return follows(f.Name) })
	}
	if at < 0 {
		at = len(m.Fields)
	}
	fields := make([]text.Field, len(values))
	for i, value := range values {
		fields[i] = text.Field{Name: name, Value: value}
	}
	m.Fields = slices.Insert(m.Fields, at, fields...)
}

// finish completes an object: it sorts its fields in the order of the proto, and prints it into Data if the object
// itself is imported. A settings node only gets an empty message, which rank reads.
func (n *Node) finish() {
	if n.class == "" {
		n.message = new(text.Message)
		return
	}
	sorted := new(text.Message)
	for _, name := range fieldOrder[n.class] {
		for _, value := range n.message.All(name) {
			sorted.Add(name, value)
		}
	}
	n.message = sorted
	if n.whole {
		n.Data = sorted.Print()
	}
}

// deriveID returns the id of an object that MidoNet needs and that the native objects do not have. It depends only on
// the object to which the new object belongs and on the purpose, so that a second import writes the same object. It
// is a UUID of version 8 (RFC 9562, section 5.8).
func deriveID(owner UUID, purpose string) UUID {
	sum := sha256.Sum256([]byte(purpose + " of " + string(owner)))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	digits := hex.EncodeToString(sum[:16])
	return UUID(strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-"))
}

var errDuplicateObject = errors.New("duplicate object")
