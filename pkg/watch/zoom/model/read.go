package model

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/text"
)

// reading takes fields out of one message. An unset field is the proto's default, as for MidoNet's getters. The first fault
// stays; what comes after it is worth nothing.
type reading struct {
	message *text.Message
	within  string // the name of the enclosing field with its dot
	fault   **spec.Fault
}

// read parses an object and holds that it has the id of its path: an empty node, or a copied one, is nobody's object.
func read(data []byte, id UUID) (reading, error) {
	message, err := text.Parse(data)
	if err != nil {
		return reading{}, err
	}
	r := reading{message: message, fault: new(*spec.Fault)}
	if inside := r.id("id"); inside != id && r.err() == nil {
		r.refuse("id", string(inside), string(id)+", as in the node's path")
	}
	return r, r.err()
}

func (r reading) err() error {
	if *r.fault == nil {
		return nil
	}
	return *r.fault
}

func (r reading) refuse(name, value, allowed string) {
	if *r.fault == nil {
		*r.fault = &spec.Fault{Key: r.within + name, Value: value, Allowed: allowed}
	}
}

// value returns the last value of a field that has the wanted form.
func (r reading) value(name string, kind text.Kind, allowed string) (text.Value, bool) {
	value, ok := r.message.Last(name)
	if ok && value.Kind != kind {
		r.refuse(name, form(value), allowed)
		return text.Value{}, false
	}
	return value, ok
}

// form names a value without repeating it.
func form(value text.Value) string {
	return [...]string{text.Word: "a word", text.String: "a string", text.Nested: "a message"}[value.Kind]
}

// nested returns a message within; one that is not set has no field set.
func (r reading) nested(name string) reading {
	value, ok := r.value(name, text.Nested, "a message")
	if !ok {
		value.Message = new(text.Message)
	}
	return r.in(name, value)
}

func (r reading) in(name string, value text.Value) reading {
	return reading{value.Message, r.within + name + ".", r.fault}
}

// each lists the messages of a repeated field.
func (r reading) each(name string) (list []reading) {
	for _, value := range r.message.All(name) {
		if value.Kind != text.Nested {
			r.refuse(name, form(value), "a message")
			return nil
		}
		list = append(list, r.in(name, value))
	}
	return list
}

// id returns an id, "" if it is not set.
func (r reading) id(name string) UUID {
	value, ok := r.value(name, text.Nested, "a message of msb and lsb")
	if !ok {
		return ""
	}
	return r.in(name, value).uuid()
}

func (r reading) ids(name string) (ids []UUID) {
	for _, id := range r.each(name) {
		ids = append(ids, id.uuid())
	}
	return ids
}

func (r reading) uuid() UUID {
	r.require("msb", "lsb")
	hex := fmt.Sprintf("%016x%016x", r.unsigned("msb", 64), r.unsigned("lsb", 64))
	return UUID(strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-"))
}

func (r reading) require(names ...string) {
	for _, name := range names {
		if _, ok := r.message.Last(name); !ok {
			r.refuse(name, "", "it is required")
		}
	}
}

// text returns a string. Its faults never repeat it.
func (r reading) text(name string) string {
	value, _ := r.value(name, text.String, "a string in quotes")
	if !utf8.ValidString(value.Text) {
		r.refuse(name, "other bytes", "UTF-8")
		return ""
	}
	return value.Text
}

func (r reading) unsigned(name string, bits int) uint64 {
	value, ok := r.value(name, text.Word, "a number")
	if !ok {
		return 0
	}
	n, err := unsigned(value.Text, bits)
	if err != nil {
		r.refuse(name, value.Text, fmt.Sprintf("a number from 0 to %d", ^uint64(0)>>(64-bits)))
	}
	return n
}

func (r reading) signed(name string, otherwise int) int {
	const allowed = "a number from -2147483648 to 2147483647"
	value, ok := r.value(name, text.Word, allowed)
	if !ok {
		return otherwise
	}
	digits, negative := strings.CutPrefix(value.Text, "-")
	n, err := unsigned(digits, 32)
	switch {
	case err == nil && negative && n <= 1<<31:
		return -int(n)
	case err == nil && !negative && n < 1<<31:
		return int(n)
	}
	r.refuse(name, value.Text, allowed)
	return otherwise
}

// unsigned reads digits as 2.6.1 does: 0x for hex, a leading 0 for octal.
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

// flag returns a bool and whether it is set.
func (r reading) flag(name string) (on, set bool) {
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
	r.refuse(name, value.Text, allowed)
	return false, true
}

// name returns the name of an enum's value, which may be written as its number; the first declared if it is not set. One
// that the enum does not have is a fault, as it is for MidoNet.
func (r reading) name(name string, of enum) string {
	value, ok := r.value(name, text.Word, of.allowed())
	if !ok {
		return of[0].name
	}
	for _, v := range of {
		if value.Text == v.name || value.Text == strconv.Itoa(v.number) {
			return v.name
		}
	}
	r.refuse(name, value.Text, of.allowed())
	return ""
}

// word is name in the words of the native objects.
func (r reading) word(name string, of enum) string {
	found := r.name(name, of)
	for _, v := range of {
		if v.name == found {
			return v.word
		}
	}
	return ""
}
