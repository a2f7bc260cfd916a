// Package text reads and prints protocol buffers in text form, as MidoNet keeps its objects and states: what
// protobuf-java 2.6.1's TextFormat prints, and what its parser reads.
//
// A message becomes a tree of fields in the order in which they were written, without a schema: what the fields mean is
// the caller's. So an object can be read, changed and printed again with every field kept that nobody here knows. Reading
// costs bounded memory and depth whatever the input is; a fault is one line with the place and never repeats what stands
// there, which may be a secret. Printing is exactly 2.6.1's, byte for byte: MidoNet's readers of states are strict and
// understand no later form.
//
// What it does not keep: comments, and lists in brackets, which become repeated fields.
package text

import (
	"slices"
	"strconv"
)

// Limits of one message.
const (
	MaxSize   = 1 << 20 // bytes; ZooKeeper's own limit of a node is one less
	MaxDepth  = 64      // nested messages, as many as protobuf's own parsers allow
	MaxFields = 1 << 17 // in all, nested ones too; a host of 20,000 ports has half of them
)

// Message is a list of fields in their order.
type Message struct{ Fields []Field }

// Field is one field with its value. A repeated one stands there as often as it has values. The name of an extension is in
// brackets, [a.b].
type Field struct {
	Name  string
	Value Value
}

// Kind is the form of a value.
type Kind uint8

// The forms of a value.
const (
	Word   Kind = iota // a number, an enum's name, true or false: as it was written
	String             // the bytes that the quotes held
	Nested
)

// Value is one value.
type Value struct {
	Kind    Kind
	Text    string   // of a Word and a String
	Message *Message // of a Nested
}

// Name is the value of an enum.
func Name(name string) Value { return Value{Kind: Word, Text: name} }

// Int is the value of an int32 or int64.
func Int[N ~int | ~int32 | ~int64](n N) Value {
	return Value{Kind: Word, Text: strconv.FormatInt(int64(n), 10)}
}

// Uint is the value of an uint32 or uint64.
func Uint[N ~uint | ~uint32 | ~uint64](n N) Value {
	return Value{Kind: Word, Text: strconv.FormatUint(uint64(n), 10)}
}

// Bool is the value of a bool.
func Bool(b bool) Value { return Value{Kind: Word, Text: strconv.FormatBool(b)} }

// Quoted is the value of a string or of bytes.
func Quoted(s string) Value { return Value{Kind: String, Text: s} }

// Of is the value that is a message with these fields.
func Of(fields ...Field) Value { return Value{Kind: Nested, Message: &Message{fields}} }

// Add appends a field.
func (m *Message) Add(name string, value Value) {
	m.Fields = append(m.Fields, Field{name, value})
}

// Last returns the last value of a name: a later one of a field that is not repeated overwrites an earlier one.
func (m *Message) Last(name string) (Value, bool) {
	for _, f := range slices.Backward(m.Fields) {
		if f.Name == name {
			return f.Value, true
		}
	}
	return Value{}, false
}

// All lists the values of a repeated field.
func (m *Message) All(name string) (values []Value) {
	for _, f := range m.Fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// Set gives a field one value where its last one stands. One that is not there yet is put in front of the first that
// follows, by later's word, in the order of the proto; other fields stay as they are.
func (m *Message) Set(name string, value Value, later func(name string) bool) {
	at := -1
	for i, f := range m.Fields {
		if f.Name == name {
			at = i
		}
	}
	if at < 0 {
		at = slices.IndexFunc(m.Fields, func(f Field) bool { return later(f.Name) })
		if at < 0 {
			at = len(m.Fields)
		}
		m.Fields = slices.Insert(m.Fields, at, Field{name, value})
		return
	}
	m.Fields[at].Value = value
	for i := at - 1; i >= 0; i-- {
		if m.Fields[i].Name == name {
			m.Fields = slices.Delete(m.Fields, i, i+1)
		}
	}
}

// Remove takes away every value of a name.
func (m *Message) Remove(name string) {
	m.Fields = slices.DeleteFunc(m.Fields, func(f Field) bool { return f.Name == name })
}
