package text

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Parse parses one message. It accepts the whole syntax of the parser of protobuf-java 2.6.1: nested messages in {}
// or <>, with or without a colon before them; lists in brackets; comments; fields followed by a comma or a semicolon;
// strings in single quotes; and adjacent strings, which are concatenated. It accepts messages of every type. An error
// is one line and contains no text of the input.
func Parse(data []byte) (*Message, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("has %d bytes: allowed: %d", len(data), MaxSize)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("is not UTF-8: allowed: text protobuf in UTF-8")
	}
	p := &parser{scanner: scanner{data: string(data)}}
	p.next()
	message, err := p.message("", 0)
	if err != nil {
		return nil, err
	}
	return message, nil
}

type parser struct {
	scanner
	fields int
}

// message parses fields up to the token closing, where "" is the end of the input. It does not consume that token.
func (p *parser) message(closing string, depth int) (*Message, error) {
	m := new(Message)
	for p.token.text != closing || p.token.kind == stringToken {
		if p.token.kind == endToken {
			return nil, p.fault("the input ends within a message: allowed: " + closing)
		}
		if err := p.field(m, depth); err != nil {
			return nil, err
		}
		if !p.accept(";") {
			p.accept(",")
		}
	}
	return m, nil
}

func (p *parser) field(m *Message, depth int) error {
	name, err := p.name()
	if err != nil {
		return err
	}
	colon := p.accept(":")
	if !p.accept("[") {
		return p.value(m, name, colon, depth)
	}
	for first := true; !p.accept("]"); first = false {
		if !first && !p.accept(",") {
			return p.fault("missing comma in a list: allowed: , or ]")
		}
		if err := p.value(m, name, colon, depth); err != nil {
			return err
		}
	}
	return nil
}

// name parses the name of a field or of an extension.
func (p *parser) name() (string, error) {
	extension := p.accept("[")
	var parts []string
	for {
		if p.token.kind != wordToken || !isName(p.token.text) {
			return "", p.fault("missing field name: allowed: a letter or '_', then letters, digits and '_'")
		}
		parts = append(parts, p.token.text)
		p.next()
		if !extension || !p.accept(".") {
			break
		}
	}
	if !extension {
		return parts[0], nil
	}
	if !p.accept("]") {
		return "", p.fault("the name of an extension is not closed: allowed: ]")
	}
	return "[" + strings.Join(parts, ".") + "]", nil
}

func (p *parser) value(m *Message, name string, colon bool, depth int) error {
	if p.fields++; p.fields > MaxFields {
		return p.fault(fmt.Sprintf("more fields than allowed: allowed: %d", MaxFields))
	}
	if closing := p.openMessage(); closing != "" {
		if depth == MaxDepth {
			return p.fault(fmt.Sprintf("messages are nested too deep: allowed: %d levels", MaxDepth))
		}
		nested, err := p.message(closing, depth+1)
		if err != nil {
			return err
		}
		p.next()
		m.Add(name, Value{Kind: Nested, Message: nested})
		return nil
	}
	if !colon {
		return p.fault("missing colon: allowed: a colon and a value, or a message in braces")
	}
	switch p.token.kind {
	case stringToken:
		value := p.token.text
		if p.next(); p.token.kind == stringToken {
			parts := []string{value}
			for ; p.token.kind == stringToken; p.next() {
				parts = append(parts, p.token.text)
			}
			value = strings.Join(parts, "")
		}
		m.Add(name, Quoted(value))
	case wordToken, numberToken:
		m.Add(name, Name(p.token.text))
		p.next()
	default:
		return p.fault("missing value: allowed: a number, a name, a string in quotes or a message in braces")
	}
	return nil
}

// openMessage consumes the token that opens a nested message and returns the token that closes it. It returns "" if the
// current token does not open a message.
func (p *parser) openMessage() (closing string) {
	switch {
	case p.accept("{"):
		return "}"
	case p.accept("<"):
		return ">"
	default:
		return ""
	}
}

// accept consumes the current token if it is the given punctuation character, and reports whether it did.
func (p *parser) accept(punctuation string) bool {
	if p.token.kind != punctuationToken || p.token.text != punctuation {
		return false
	}
	p.next()
	return true
}

func isName(s string) bool { return !strings.ContainsAny(s, "+-") }
