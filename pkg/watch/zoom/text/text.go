// Package text parses and prints protocol buffers in text format, the format in which MidoNet stores its objects and
// states. It accepts the input that the TextFormat parser of protobuf-java 2.6.1 accepts, and prints the output that
// its TextFormat prints.
//
// Parse needs no schema. It turns a message into a tree of fields in their original order, and the caller interprets
// the fields. A caller can therefore parse an object, change it and print it again, and keep the fields that it does
// not know. Parsing needs bounded memory and recursion depth for any input. A parse error is one line with the line
// and column of the fault. It never contains text of the input, because that text may be a secret. The output equals
// that of protobuf-java 2.6.1 byte for byte, because MidoNet's readers of states are strict and reject the format of
// later releases.
//
// Parsing drops comments, and turns a list in brackets into a repeated field.
//
// The parser of github.com/protocolbuffers/txtpbfmt is not used: it reads a truncated message, such as "ids { msb: 1",
// as if it were complete. library_test.go shows this and its other differences.
package text

import (
	"slices"
	"strconv"
)

// Limits of one message.
const (
	MaxSize   = 1 << 20 // bytes; the limit that ZooKeeper has for the data of a node is one byte less
	MaxDepth  = 64      // nested messages; protobuf's own parsers have the same limit
	MaxFields = 1 << 17 // fields including those of nested messages; a host of 20,000 ports has half as many
)

// Message is a list of fields in the order in which they were parsed or added.
type Message struct{ Fields []Field }

// Field is one field with its value. A repeated field has one Field for each of its values. The name of an extension is
// in brackets, for example [a.b].
type Field struct {
	Name  string
	Value Value
}

// Kind is the syntactic form of a value.
type Kind uint8

// The kinds of a value.
const (
	Word   Kind = iota // a number, the name of an enum value, true or false; Value.Text is the original spelling
	String             // a quoted string; Value.Text holds its unescaped bytes
	Nested             // a nested message
)

// Value is one value of a field.
type Value struct {
	Kind    Kind
	Text    string   // set if Kind is Word or String
	Message *Message // set if Kind is Nested
}

// Name returns the value of an enum field.
func Name(name string) Value { return Value{Kind: Word, Text: name} }

// Int returns the value of a field of type int32 or int64.
func Int[N ~int | ~int32 | ~int64](n N) Value {
	return Value{Kind: Word, Text: strconv.FormatInt(int64(n), 10)}
}

// Uint returns the value of a field of type uint32 or uint64.
func Uint[N ~uint | ~uint32 | ~uint64](n N) Value {
	return Value{Kind: Word, Text: strconv.FormatUint(uint64(n), 10)}
}

// Quoted returns the value of a field of type string or bytes. s is not escaped.
func Quoted(s string) Value { return Value{Kind: String, Text: s} }

// Of returns a nested message with these fields.
func Of(fields ...Field) Value { return Value{Kind: Nested, Message: &Message{fields}} }

// Add appends a field.
func (m *Message) Add(name string, value Value) {
	m.Fields = append(m.Fields, Field{name, value})
}

// Last returns the last value of a field, and false if the field is not set. If a field that is not repeated occurs
// more than once, the last value counts.
func (m *Message) Last(name string) (Value, bool) {
	for _, f := range slices.Backward(m.Fields) {
		if f.Name == name {
			return f.Value, true
		}
	}
	return Value{}, false
}

// All returns the values of a repeated field.
func (m *Message) All(name string) (values []Value) {
	for _, f := range m.Fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return values
}

// Set replaces the last value of a field and removes its other values. A field that is not set yet is inserted before
// the first field for which later returns true, or at the end. later reports whether a field follows name in the order
// of the proto. Set does not change other fields.
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
