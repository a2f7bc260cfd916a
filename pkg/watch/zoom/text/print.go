package text

import "fmt"

// Print prints a message by the rules of 2.6.1: a field a line, two spaces a level, no colon before a nested message. An
// empty message is no bytes at all.
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

// escapes are the bytes that 2.6.1 has a letter for. A single quote is escaped too, though the quotes are double.
var escapes = map[byte]byte{
	'\a': 'a', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v', '\\': '\\', '\'': '\'', '"': '"',
}

// appendQuoted escapes a string's bytes. What is not ASCII is three octal digits a byte, and never the \u of later
// releases: 2.6.1 refuses that. DEL is printed as it is.
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
