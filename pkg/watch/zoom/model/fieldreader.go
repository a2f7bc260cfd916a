package model

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// fieldReader reads the fields of one message. A field that is not set has the default value of the proto, as it has
// for the getters of MidoNet. Only the first fault is kept, and values that are read after a fault must not be used.
type fieldReader struct {
	message *text.Message
	prefix  string // the name of the enclosing field with its dot
	fault   **spec.Fault
}

// read parses an object and checks that its id is the one in its path. This rejects an empty node and a copy of
// another object.
func read(data []byte, id UUID) (fieldReader, error) {
	message, err := text.Parse(data)
	if err != nil {
		return fieldReader{}, err
	}
	r := fieldReader{message: message, fault: new(*spec.Fault)}
	if inside := r.id("id"); inside != id && r.err() == nil {
		r.setFault("id", string(inside), string(id)+", as in the node's path")
	}
	return r, r.err()
}

func (r fieldReader) err() error {
	if *r.fault == nil {
		return nil
	}
	return *r.fault
}

func (r fieldReader) setFault(name, value, allowed string) {
	if *r.fault == nil {
		*r.fault = &spec.Fault{Key: r.prefix + name, Value: value, Allowed: allowed}
	}
}

// value returns the last value of a field, which must have the given kind. It returns false if the field is not set
// or has another kind; the latter is a fault.
func (r fieldReader) value(name string, kind text.Kind, allowed string) (text.Value, bool) {
	value, ok := r.message.Last(name)
	if ok && value.Kind != kind {
		r.setFault(name, kindName(value), allowed)
		return text.Value{}, false
	}
	return value, ok
}

// kindName describes the kind of a value without disclosing the value.
func kindName(value text.Value) string {
	return [...]string{text.Word: "an unquoted value", text.String: "a string", text.Nested: "a message"}[value.Kind]
}

// nested returns a nested message. If the field is not set, it returns an empty message.
func (r fieldReader) nested(name string) fieldReader {
	value, ok := r.value(name, text.Nested, "a message")
	if !ok {
		value.Message = new(text.Message)
	}
	return r.descend(name, value)
}

// descend returns a reader of value, which is the nested message in the field name.
func (r fieldReader) descend(name string, value text.Value) fieldReader {
	return fieldReader{value.Message, r.prefix + name + ".", r.fault}
}

// messages returns the messages of a repeated field.
func (r fieldReader) messages(name string) (list []fieldReader) {
	for _, value := range r.message.All(name) {
		if value.Kind != text.Nested {
			r.setFault(name, kindName(value), "a message")
			return nil
		}
		list = append(list, r.descend(name, value))
	}
	return list
}

// id returns a UUID field, and "" if it is not set.
func (r fieldReader) id(name string) UUID {
	value, ok := r.value(name, text.Nested, "a message of msb and lsb")
	if !ok {
		return ""
	}
	return r.descend(name, value).uuid()
}

func (r fieldReader) ids(name string) (ids []UUID) {
	for _, id := range r.messages(name) {
		ids = append(ids, id.uuid())
	}
	return ids
}

func (r fieldReader) uuid() UUID {
	r.require("msb", "lsb")
	hex := fmt.Sprintf("%016x%016x", r.unsigned("msb", 64), r.unsigned("lsb", 64))
	return UUID(strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-"))
}

func (r fieldReader) require(names ...string) {
	for _, name := range names {
		if _, ok := r.message.Last(name); !ok {
			r.setFault(name, "", "a value: the field is required")
		}
	}
}

// text returns a string field. Its faults never contain the string, which may be a secret.
func (r fieldReader) text(name string) string {
	value, _ := r.value(name, text.String, "a string in quotes")
	if !utf8.ValidString(value.Text) {
		r.setFault(name, "invalid UTF-8", "UTF-8")
		return ""
	}
	return value.Text
}

func (r fieldReader) unsigned(name string, bits int) uint64 {
	value, ok := r.value(name, text.Word, "a number")
	if !ok {
		return 0
	}
	n, err := unsigned(value.Text, bits)
	if err != nil {
		r.setFault(name, value.Text, fmt.Sprintf("a number from 0 to %d", ^uint64(0)>>(64-bits)))
	}
	return n
}

// signed returns an int32 field, and unset if the field is not set.
func (r fieldReader) signed(name string, unset int) int {
	const allowed = "a number from -2147483648 to 2147483647"
	value, ok := r.value(name, text.Word, allowed)
	if !ok {
		return unset
	}
	digits, negative := strings.CutPrefix(value.Text, "-")
	n, err := unsigned(digits, 32)
	switch {
	case err == nil && negative && n <= 1<<31:
		return -int(n)
	case err == nil && !negative && n < 1<<31:
		return int(n)
	}
	r.setFault(name, value.Text, allowed)
	return unset
}

// unsigned parses a number as protobuf-java 2.6.1 does: the prefix 0x means hexadecimal, and a leading 0 octal.
func unsigned(digits string, bits int) (uint64, error) {
	switch {
	case strings.HasPrefix(digits, "0x"):
		return strconv.ParseUint(digits[2:], 16, bits)
	case strings.HasPrefix(digits, "0"):
		return strconv.ParseUint(digits, 8, bits)
	default:
		return strconv.ParseUint(digits, 10, bits)
	}
}

// flag returns the value of a bool field and whether the field is set.
func (r fieldReader) flag(name string) (on, set bool) {
	const allowed = "true or false"
	value, set := r.value(name, text.Word, allowed)
	if !set {
		return false, false
	}
	switch value.Text {
	case "true", "t", "1":
		return true, true
	case "false", "f", "0":
		return false, true
	}
	r.setFault(name, value.Text, allowed)
	return false, true
}

// enumName returns the name of the value of an enum field. The value may be written as its number. If the field is
// not set, it is the first declared value. An unknown value is a fault, as it is for MidoNet.
func (r fieldReader) enumName(name string, values enum) string {
	value, ok := r.value(name, text.Word, values.allowed())
	if !ok {
		return values[0].name
	}
	for _, v := range values {
		if value.Text == v.name || value.Text == strconv.Itoa(v.number) {
			return v.name
		}
	}
	r.setFault(name, value.Text, values.allowed())
	return ""
}

// nativeName is like enumName, but returns the value as native objects write it.
func (r fieldReader) nativeName(name string, values enum) string {
	found := r.enumName(name, values)
	for _, v := range values {
		if v.name == found {
			return v.native
		}
	}
	return ""
}
