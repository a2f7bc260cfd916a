package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrNotWhole says that a text cannot be edited without a loss of what else stands in it: comments, order, layout.
var ErrNotWhole = errors.New("its comments or layout would be lost")

// Edit sets one member of an object in the text that a person wrote, YAML or JSON, and leaves every other byte as it is.
// Only a value of one line is replaced. The result is read again: unless it says what With says, the error is ErrNotWhole.
func Edit(text []byte, format Format, key string, value json.RawMessage) ([]byte, error) {
	before, err := Parse(text, format)
	if err != nil {
		return nil, err
	}
	wanted := before.With(key, value)
	edited := editText(text, format, key, string(value))
	if edited != nil {
		if after, err := Parse(edited, format); err == nil && sameJSON(after.JSON, wanted) {
			return edited, nil
		}
	}
	if format == JSON { // has no comments: the layout alone is lost
		return Print(wanted), nil
	}
	return nil, ErrNotWhole
}

// Print writes JSON as a file has it: indented, with a newline at its end.
func Print(value json.RawMessage) []byte {
	var out bytes.Buffer
	if json.Indent(&out, value, "", "  ") != nil {
		return append(bytes.Clone(value), '\n')
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// editText tries an edit; nil if it does not know how. It may be wrong: its caller looks.
func editText(text []byte, format Format, key, value string) []byte {
	root, err := yamlNode(text)
	if err != nil || root.Kind != yaml.MappingNode {
		return nil
	}
	member := string(jsonString(key)) + ": " + value
	if format == YAML && plainWord.MatchString(key) {
		member = key + ": " + value
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == key {
			return replaceScalar(text, root.Content[i+1], value)
		}
	}
	if root.Style&yaml.FlowStyle != 0 {
		if len(root.Content) > 0 {
			member += ", "
		}
		at := offset(text, root.Line, root.Column)
		if at < 0 {
			return nil
		}
		return splice(text, at+1, at+1, member)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		member = "\n" + member
	}
	return append(bytes.Clone(text), strings.Repeat(" ", root.Column-1)+member+"\n"...)
}

// replaceScalar replaces a plain or quoted value that stands in one line.
func replaceScalar(text []byte, node *yaml.Node, value string) []byte {
	start := offset(text, node.Line, node.Column)
	if node.Kind != yaml.ScalarNode || start < 0 || node.Anchor != "" {
		return nil
	}
	rest := text[start:]
	if newline := bytes.IndexByte(rest, '\n'); newline >= 0 {
		rest = rest[:newline]
	}
	var end int
	switch {
	case node.Style == 0 && bytes.HasPrefix(rest, []byte(node.Value)):
		end = len(node.Value)
	case len(rest) > 0 && (rest[0] == '"' || rest[0] == '\''):
		end = len(quoted.Find(rest))
	}
	if end == 0 {
		return nil
	}
	return splice(text, start, start+end, value)
}

var (
	plainWord = regexp.MustCompile(`^[a-z][A-Za-z0-9_.-]*$`)
	quoted    = regexp.MustCompile(`^("([^"\\]|\\.)*"|'([^']|'')*')`)
)

// offset is where a line and column of the YAML parser lie, both from 1, columns in characters; -1: nowhere.
func offset(text []byte, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		newline := bytes.IndexByte(text[at:], '\n')
		if newline < 0 {
			return -1
		}
		at += newline + 1
	}
	for ; column > 1; column-- {
		if at >= len(text) {
			return -1
		}
		for at++; at < len(text) && text[at]&0xc0 == 0x80; at++ { // the rest of a character
		}
	}
	return at
}

func splice(text []byte, start, end int, with string) []byte {
	return bytes.Join([][]byte{text[:start], []byte(with), text[end:]}, nil)
}

// PrintYAML writes a document as a person would write YAML, if it reads back as the same to the last digit; as JSON, which
// is YAML, if not.
func PrintYAML(document *Document) []byte {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if node, err := yamlNode(document.JSON); err == nil {
		plainStyle(node)
		if encoder.Encode(node) == nil && encoder.Close() == nil {
			if again, err := Parse(out.Bytes(), YAML); err == nil && bytes.Equal(again.JSON, document.JSON) {
				return out.Bytes()
			}
		}
	}
	return Print(document.JSON)
}

// plainStyle takes JSON's braces away, and the quotes of strings that no reader of YAML takes for something else.
func plainStyle(node *yaml.Node) {
	flat := node.Kind == yaml.SequenceNode && len(node.Content) > 0
	for _, child := range node.Content {
		plainStyle(child)
		flat = flat && child.Kind == yaml.ScalarNode
	}
	switch {
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str" && plainWord.MatchString(node.Value) && !reserved[strings.ToLower(node.Value)]:
		node.Style = 0
	case (node.Kind == yaml.MappingNode || node.Kind == yaml.SequenceNode) && len(node.Content) > 0 && !flat:
		node.Style &^= yaml.FlowStyle
	}
}

// reserved words are something else than strings in YAML 1.1 or 1.2.
var reserved = map[string]bool{"yes": true, "no": true, "on": true, "off": true, "true": true, "false": true, "null": true, "y": true, "n": true}
