package config

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// distinguishedName parses a distinguished name in the forms of OpenSSL and RFC 4514. Examples are
//
//	C=FR, O=Example
//	C = FR, O = "Example, Inc."
//	O=Example\, Inc.
//
// The attributes are in the order of the certificate. The fault has no key. Its value is the part of s that is refused.
func distinguishedName(s string) (Identity, *spec.Fault) {
	if strings.HasPrefix(s, "/") {
		return Identity{}, &spec.Fault{Value: s, Allowed: "attributes separated by commas, like C=FR, O=Example"}
	}
	var parts []string
	for rest, more := s, true; more; {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return Identity{}, &spec.Fault{
				Value: strings.Trim(rest, " "), Allowed: `attribute=value; a comma inside a value is written \,`,
			}
		}
		if name = strings.Trim(name, " "); !dnKey.MatchString(name) {
			return Identity{}, &spec.Fault{Value: name, Allowed: "an attribute of " + dnKeys}
		}
		p := dnParser{name: name, rest: strings.TrimLeft(after, " ")}
		value, fault := p.value()
		if fault != nil {
			return Identity{}, fault
		}
		parts = append(parts, name+"="+encodeDNValue(value))
		rest, more = p.rest, p.more
	}
	return Identity{kindDN, strings.Join(parts, ", ")}, nil
}

// encodeDNValue returns an attribute value in a form that every Libreswan parses correctly. Values that need escapes
// become the hexadecimal DER encoding of a UTF8String (RFC 4514, section 2.4). The escapes that Libreswan accepts
// differ between its versions, and it encodes text that is not ASCII as a T61String, which is never equal to a
// UTF8String.
func encodeDNValue(value string) string {
	if dnValue.MatchString(value) {
		return value
	}
	length := []byte{byte(len(value))}
	if len(value) > 127 { // at most 255, the maximum length of an identity
		length = []byte{0x81, byte(len(value))}
	}
	return "#0c" + hex.EncodeToString(length) + hex.EncodeToString([]byte(value))
}

// dnParser parses one value of a distinguished name.
type dnParser struct {
	name string
	rest string // the input that is not parsed yet
	more bool   // another attribute follows
}

// special are the characters that must be escaped in a value without quotes.
const special = `,+"\<>;`

func (p *dnParser) fault(value, allowed string) *spec.Fault {
	return &spec.Fault{Value: p.name + "=" + value, Allowed: allowed}
}

func (p *dnParser) value() (value string, fault *spec.Fault) {
	given := p.rest
	quoted := strings.HasPrefix(given, `"`)
	if quoted {
		value, fault = p.quoted()
	} else {
		value, fault = p.plain()
	}
	switch {
	case fault != nil:
		return "", fault
	case value == "":
		return "", p.fault(value, "a value that is not empty")
	case value == "*":
		return "", p.fault(value, "a value; * matches any, and is not supported")
	case !utf8.ValidString(value) || !printable(value):
		return "", p.fault(value, "printable text in UTF-8")
	case quoted && !strings.ContainsAny(value, special+"#=") && strings.Trim(value, " ") == value:
		return "", p.fault(given, `quotes only around a value with one of ,+"\<>;#= or with a blank at an end`)
	}
	return value, nil
}

// quoted parses a value in double quotes, and the comma after it.
func (p *dnParser) quoted() (string, *spec.Fault) {
	var b strings.Builder
	given := p.rest
	for p.rest = p.rest[1:]; p.rest != "" && p.rest[0] != '"'; {
		if fault := p.next(&b); fault != nil {
			return "", fault
		}
	}
	if p.rest == "" {
		return "", p.fault(given, `a closing "`)
	}
	after := strings.TrimLeft(p.rest[1:], " ")
	if p.more = strings.HasPrefix(after, ","); !p.more && after != "" {
		return "", p.fault(given, `a comma after the closing "`)
	}
	p.rest = strings.TrimPrefix(after, ",")
	return b.String(), nil
}

// plain parses a value without quotes, and the comma after it.
func (p *dnParser) plain() (string, *spec.Fault) {
	var b strings.Builder
	// escaped is the length of the value up to and including its last escape. Trailing blanks are trimmed only after
	// it.
	given, escaped := p.rest, 0
	if strings.HasPrefix(given, "#") {
		return "", p.fault(given, `\# at the beginning of a value`)
	}
	for p.rest != "" && p.rest[0] != ',' {
		switch c := p.rest[0]; {
		case c == '\\':
			if fault := p.next(&b); fault != nil {
				return "", fault
			}
			escaped = b.Len()
			continue
		case strings.IndexByte(special, c) >= 0:
			return "", p.fault(given, `\`+p.rest[:1]+" in the place of "+p.rest[:1])
		case c == '/':
			if name, _, ok := strings.Cut(p.rest[1:], "="); ok && dnKey.MatchString(name) {
				return "", p.fault(given, "attributes separated by commas, like C=FR, O=Example")
			}
		}
		b.WriteByte(p.rest[0])
		p.rest = p.rest[1:]
	}
	if p.more = p.rest != ""; p.more {
		p.rest = p.rest[1:]
	}
	value := b.String()
	return value[:escaped] + strings.TrimRight(value[escaped:], " "), nil
}

// next reads a byte, or an escape: a backslash that is followed by two hexadecimal digits, or by one of the special
// characters, a blank, #, = or /.
func (p *dnParser) next(b *strings.Builder) *spec.Fault {
	if p.rest[0] != '\\' {
		b.WriteByte(p.rest[0])
		p.rest = p.rest[1:]
		return nil
	}
	if len(p.rest) > 2 {
		if pair, err := hex.DecodeString(p.rest[1:3]); err == nil {
			b.Write(pair)
			p.rest = p.rest[3:]
			return nil
		}
	}
	if len(p.rest) < 2 || !strings.ContainsAny(p.rest[1:2], special+" #=/") {
		return p.fault(p.rest, `after \: two hexadecimal digits, or one of `+special+" #=")
	}
	b.WriteByte(p.rest[1])
	p.rest = p.rest[2:]
	return nil
}
