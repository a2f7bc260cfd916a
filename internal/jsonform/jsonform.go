// Package jsonform reads and writes JSON in forms that encoding/json does not offer: without escapes for HTML,
// canonical, and objects whose members keep their order and text.
package jsonform

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Marshal is json.Marshal without the escapes for HTML, so that JSON inside the value keeps its text.
func Marshal(value any) ([]byte, error) { return encode(value, "") }

// MarshalIndent is Marshal with an indentation of two spaces.
func MarshalIndent(value any) ([]byte, error) { return encode(value, "  ") }

func encode(value any, indent string) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// Canonical returns the canonical text of one JSON value: keys sorted, no white space, numbers as they were written,
// and with the escapes of json.Marshal. Digests are made of it, so it must not change.
func Canonical(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return json.Marshal(value)
}

// Equal reports whether two texts have the same canonical text. A text that is not JSON is equal only to itself.
func Equal(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	canonicalA, errA := Canonical(a)
	canonicalB, errB := Canonical(b)
	return errA == nil && errB == nil && bytes.Equal(canonicalA, canonicalB)
}

// Member is a key of an object and the text of its value.
type Member struct {
	Key   string
	Value json.RawMessage
}

// Members returns the members of one JSON object in their order, including those with equal keys.
func Members(text []byte) ([]Member, error) {
	if !json.Valid(text) {
		return nil, errNotObject
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errNotObject
	}
	var members []Member
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		m := Member{Key: key.(string)}
		if err := decoder.Decode(&m.Value); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return members, nil
}

var errNotObject = errors.New("is not one JSON object")

// Object returns the text of the object with these members, without white space between them.
func Object(members []Member) json.RawMessage {
	var text bytes.Buffer
	text.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			text.WriteByte(',')
		}
		key, _ := Marshal(m.Key) // cannot fail: a string
		text.Write(key)
		text.WriteByte(':')
		text.Write(m.Value)
	}
	text.WriteByte('}')
	return text.Bytes()
}
