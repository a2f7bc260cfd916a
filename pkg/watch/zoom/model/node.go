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

// Node is one node to be written by an import: created with Data where it is absent, else set to what Onto makes of what
// stands there. Without Data it is not created: it stands for an object that is not among the imported ones and is only
// referred to by them.
type Node struct {
	Path string
	Data []byte

	class   Class
	message *text.Message
	whole   bool              // the object itself is imported, not only references to it
	lists   []string          // the fields of message that are back-references: united, since others refer to the object too
	clears  []string          // the fields that go where message does not have them
	values  map[string]string // of a node of settings, by canonical key; class is ""
}

// Onto puts the node onto one that is there already: the fields that native objects know are replaced, lists of
// back-references are united, and all else of the existing object or settings is kept. An object that cannot be parsed has
// nothing to be kept: it is replaced. Settings that cannot be are refused, they are not ours alone.
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
	for _, name := range orders[n.class] {
		values := n.message.All(name)
		switch {
		case slices.Contains(n.lists, name):
			values = united(m.All(name), values)
		case len(values) == 0 && !slices.Contains(n.clears, name):
			continue
		}
		put(m, n.class, name, values)
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

// united is a list of ids with those of another that it lacks.
func united(ids, more []text.Value) []text.Value {
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

// put gives a field exactly these values, where its first one stands or in the order of the proto.
func put(m *text.Message, class Class, name string, values []text.Value) {
	at := slices.IndexFunc(m.Fields, func(f text.Field) bool { return f.Name == name })
	m.Remove(name)
	if at < 0 {
		follows := later(class, name)
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

// finish prints the object, with its fields in the order of the proto, and lets the message go into a node.
func (n *Node) finish() {
	if n.class == "" {
		n.message = new(text.Message)
		return
	}
	sorted := new(text.Message)
	for _, name := range orders[n.class] {
		for _, value := range n.message.All(name) {
			sorted.Add(name, value)
		}
	}
	n.message = sorted
	if n.whole {
		n.Data = sorted.Print()
	}
}

// derive makes the id of an object that MidoNet has and the native objects do not: always the same for the object that it
// belongs to, so that importing twice makes it once. It is a UUID of version 8 (RFC 9562, section 5.8).
func derive(of UUID, what string) UUID {
	sum := sha256.Sum256([]byte(what + " of " + string(of)))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	digits := hex.EncodeToString(sum[:16])
	return UUID(strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-"))
}

var errTwice = errors.New("stands twice: allowed: once")
