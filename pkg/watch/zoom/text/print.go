package text

import "fmt"

// Print prints a message as protobuf-java 2.6.1 does: one field per line, two spaces of indentation for each level, and
// no colon before a nested message. For an empty message it returns no bytes.
func (m *Message) Print() []byte { return m.print(nil, 0) }

func (m *Message) print(out []byte, depth int) []byte {
	for _, f := range m.Fields {
		out = indent(out, depth)
		out = append(out, f.Name...)
		switch f.Value.Kind {
		case Nested:
			out = append(out, " {\n"...)
			out = f.Value.Message.print(out, depth+1)
			out = append(indent(out, depth), '}')
		case String:
			out = appendQuoted(append(out, ": "...), f.Value.Text)
		default:
			out = append(append(out, ": "...), f.Value.Text...)
		}
		out = append(out, '\n')
	}
	return out
}

func indent(out []byte, depth int) []byte {
	for range depth {
		out = append(out, "  "...)
	}
	return out
}

// escapes maps each byte that protobuf-java 2.6.1 prints as a backslash and one character to that character. 2.6.1
// escapes a single quote too, although it encloses strings in double quotes.
var escapes = map[byte]byte{
	'\a': 'a', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v', '\\': '\\', '\'': '\'', '"': '"',
}

// appendQuoted appends s in double quotes, escaped byte by byte. A control character or a byte that is not ASCII
// becomes three octal digits. It never uses \u, which later releases print, because the parser of 2.6.1 rejects it.
// DEL is not escaped.
func appendQuoted(out []byte, s string) []byte {
	out = append(out, '"')
	for i := range len(s) {
		letter, ok := escapes[s[i]]
		switch {
		case ok:
			out = append(out, '\\', letter)
		case s[i] < 0x20 || s[i] >= 0x80:
			out = fmt.Appendf(out, `\%03o`, s[i])
		default:
			out = append(out, s[i])
		}
	}
	return append(out, '"')
}
