// Package jsonform writes JSON in forms that encoding/json does not offer: without escapes for HTML, and canonical.
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
