// Package texttest provides a strict reader of text protobuf for tests. It follows the rules of protobuf-java 2.6.1 and
// shares no code with package text. MidoNet's scheduler and API read states by these rules, so this reader must accept
// everything that the supervisor writes.
package texttest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Values is a message. It maps each field name to the values of the field, which are int64, uint64, bool, string or
// Values. The value of an enum field is its name, as a string.
type Values map[string][]any

// Int returns the last value of an int32 field, and 0 if the field is not set.
func (v Values) Int(name string) int64 { return last[int64](v, name) }

// Text returns the last value of a string or enum field, and "" if the field is not set.
func (v Values) Text(name string) string { return last[string](v, name) }

// Has reports whether a field is set.
func (v Values) Has(name string) bool { return len(v[name]) > 0 }

// UUID returns the canonical form of a UUID field, and "" if the field is not set.
func (v Values) UUID(name string) string {
	if !v.Has(name) {
		return ""
	}
	id := last[Values](v, name)
	hex := fmt.Sprintf("%016x%016x", id["msb"][0], id["lsb"][0])
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}

func last[T any](v Values, name string) (zero T) {
	if list := v[name]; len(list) > 0 {
		return list[len(list)-1].(T)
	}
	return zero
}

// tokens matches one token of protobuf-java 2.6.1: an identifier, a number, a string, or one other character.
var (
	blank  = regexp.MustCompile(`^([\s\x0b]|#[^\n]*)+`)
	tokens = regexp.MustCompile(`^([a-zA-Z_][0-9a-zA-Z_+-]*|[.]?[0-9+-][0-9a-zA-Z_.+-]*|` +
		`"([^"\n\\]|\\[^\n])*"|'([^'\n\\]|\\[^\n])*'|[^"'])`)
)

type reader struct {
	rest  string
	token string
}

// Read reads a message whose type has the name proto. It fails for an unknown field, an unknown enum value and a
// missing required field.
func Read(proto string, data []byte) (values Values, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", proto, r)
		}
	}()
	r := &reader{rest: string(data)}
	r.next()
	values = r.message(proto, "")
	return values, nil
}

// Check reads a message and then checks that TextFormat could have printed it: the layout must match exactly, and the
// fields must be in the order of their numbers.
func Check(proto string, data []byte) error {
	if _, err := Read(proto, data); err != nil {
		return err
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return fmt.Errorf("%s: does not end in a line feed", proto)
	}
	stack, numbers := []string{proto}, []int{0}
	for i, line := range strings.SplitAfter(string(data), "\n") {
		if line == "" {
			continue
		}
		errLayout := fmt.Errorf("%s: line %d: %q does not have the layout of TextFormat", proto, i+1, line)
		top := len(stack) - 1
		if top > 0 && line == strings.Repeat("  ", top-1)+"}\n" {
			stack, numbers = stack[:top], numbers[:top]
			continue
		}
		found := lineForm.FindStringSubmatch(line)
		if found == nil || len(found[1]) != 2*top {
			return errLayout
		}
		f := protos[stack[top]][found[2]]
		if f.number < numbers[top] || f.number == numbers[top] && !f.repeated {
			return fmt.Errorf("%s: line %d: field %d after field %d", proto, i+1, f.number, numbers[top])
		}
		numbers[top] = f.number
		if found[3] == " {" {
			stack, numbers = append(stack, f.kind), append(numbers, 0)
		}
	}
	return nil
}

// lineForm matches a line with a field: its indentation, its name, and " {" or its value.
var lineForm = regexp.MustCompile(`^( *)([a-z][a-z0-9_]*)( \{|: (?:[A-Za-z_][A-Za-z0-9_]*|-?[0-9]+|` +
	`"(?:[ !#-&(-\[\]-\x7f]|\\[abfnrtv\\'"]|\\[0-3][0-7][0-7])*"))\n$`)

func (r *reader) next() {
	r.rest = r.rest[len(blank.FindString(r.rest)):]
	r.token = tokens.FindString(r.rest)
	if r.token == "" && r.rest != "" {
		panic("string missing ending quote")
	}
	r.rest = r.rest[len(r.token):]
}

func (r *reader) accept(token string) bool {
	if r.token != token {
		return false
	}
	r.next()
	return true
}

func (r *reader) message(proto, closing string) Values {
	values := Values{}
	for !r.accept(closing) || closing == "" {
		if r.token == "" {
			if closing != "" {
				panic("the input ends within a message")
			}
			break
		}
		name := r.token
		f, ok := protos[proto][name]
		if !ok {
			panic(fmt.Sprintf("message type %q has no field named %q", proto, name))
		}
		r.next()
		_, nested := protos[f.kind]
		if !r.accept(":") && !nested {
			panic("expected ':' after " + name)
		}
		if f.repeated && r.accept("[") {
			for more := true; more; more = r.accept(",") {
				values[name] = append(values[name], r.value(f.kind))
			}
			if !r.accept("]") {
				panic("expected ']'")
			}
		} else {
			values[name] = append(values[name], r.value(f.kind))
		}
		if !r.accept(";") {
			r.accept(",")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(protos[proto])) {
		if protos[proto][name].required && !values.Has(name) {
			panic(fmt.Sprintf("message %s is missing required field %s", proto, name))
		}
	}
	return values
}

func (r *reader) value(kind string) any {
	if _, nested := protos[kind]; nested {
		if r.accept("<") {
			return r.message(kind, ">")
		}
		if !r.accept("{") {
			panic("expected '{'")
		}
		return r.message(kind, "}")
	}
	if kind == "string" {
		if !strings.ContainsAny(r.token[:min(1, len(r.token))], `"'`) {
			panic("expected string")
		}
		var s string
		for r.token != "" && strings.ContainsAny(r.token[:1], `"'`) {
			s += unescape(r.token[1 : len(r.token)-1])
			r.next()
		}
		return s
	}
	token := r.token
	r.next()
	if names, ok := enums[kind]; ok {
		for name, number := range names {
			if token == name || token == strconv.Itoa(number) {
				return name
			}
		}
		panic(fmt.Sprintf("enum type %q has no value named %q", kind, token))
	}
	var value any
	var err error
	switch kind {
	case "int32":
		value, err = strconv.ParseInt(token, 0, 32)
	case "uint32":
		value, err = strconv.ParseUint(token, 0, 32)
	case "uint64":
		value, err = strconv.ParseUint(token, 0, 64)
	case "bool":
		b, ok := map[string]bool{"true": true, "t": true, "1": true, "false": false, "f": false, "0": false}[token]
		if !ok {
			panic(`expected "true" or "false"`)
		}
		return b
	default:
		panic("no such type: " + kind)
	}
	if err != nil {
		panic("couldn't parse integer: " + err.Error())
	}
	return value
}

var escape = regexp.MustCompile(`\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|(?s:.))`)

func unescape(s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		switch e = e[1:]; {
		case e[0] >= '0' && e[0] <= '7':
			n, _ := strconv.ParseUint(e, 8, 16)
			return string([]byte{byte(n)})
		case len(e) > 1:
			n, _ := strconv.ParseUint(e[1:], 16, 8)
			return string([]byte{byte(n)})
		}
		at := strings.Index(`abfnrtv\'"`, e)
		if at < 0 {
			panic("invalid escape sequence '\\" + e + "'")
		}
		return "\a\b\f\n\r\t\v\\'\""[at : at+1]
	})
}
