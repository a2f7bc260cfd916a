package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
)

// ErrLossyEdit is the error of an edit that would lose comments, order or layout of the text.
var ErrLossyEdit = errors.New("its comments or layout would be lost")

// Edit sets one member of an object in YAML or JSON text and keeps all other bytes. It replaces only values of a single
// line. It parses the edited text and compares it with the result of With. If this fails, Edit returns the result of
// With in the layout of Print for JSON, and ErrLossyEdit for YAML.
func Edit(text []byte, format Format, key string, value json.RawMessage) ([]byte, error) {
	before, err := Parse(text, format)
	if err != nil {
		return nil, err
	}
	want := before.With(key, value)
	edited := editText(text, format, key, string(value))
	if edited != nil {
		if after, err := Parse(edited, format); err == nil && jsonform.Equal(after.JSON, want) {
			return edited, nil
		}
	}
	if format == JSON { // JSON has no comments, so only the layout is lost
		return Print(want), nil
	}
	return nil, ErrLossyEdit
}

// Print formats JSON for a file: indented, with a newline at the end.
func Print(value json.RawMessage) []byte {
	var out bytes.Buffer
	if json.Indent(&out, value, "", "  ") != nil {
		return append(bytes.Clone(value), '\n')
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// editText returns the edited text, or nil if the edit is not supported. The result may be wrong, so the caller must
// check it.
func editText(text []byte, format Format, key, value string) []byte {
	root, err := yamlNode(text)
	if err != nil || root.Kind != yaml.MappingNode {
		return nil
	}
	member := string(jsonString(key)) + ": " + value
	if format == YAML && plainScalar.MatchString(key) {
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

// replaceScalar replaces a plain or quoted value of a single line. It returns nil if the value is of another kind.
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
	plainScalar = regexp.MustCompile(`^[a-z][A-Za-z0-9_.-]*$`)
	quoted      = regexp.MustCompile(`^("([^"\\]|\\.)*"|'([^']|'')*')`)
)

// offset returns the byte offset of a position of the YAML parser: line and column begin at 1, and columns count
// characters. It returns -1 if the text has no such position.
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
		for at++; at < len(text) && text[at]&0xc0 == 0x80; at++ { // skip the other bytes of a UTF-8 character
		}
	}
	return at
}

func splice(text []byte, start, end int, with string) []byte {
	return bytes.Join([][]byte{text[:start], []byte(with), text[end:]}, nil)
}

// PrintYAML formats a document as block style YAML with few quotes. If parsing the result would not return exactly the
// same document, it formats the document as JSON, which is also YAML.
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

// plainStyle removes the braces and brackets of JSON, and the quotes of strings that all YAML parsers read as strings.
// Lists of scalars keep their brackets.
func plainStyle(node *yaml.Node) {
	flat := node.Kind == yaml.SequenceNode && len(node.Content) > 0
	for _, child := range node.Content {
		plainStyle(child)
		flat = flat && child.Kind == yaml.ScalarNode
	}
	switch {
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str" && plainScalar.MatchString(node.Value) &&
		!reserved[strings.ToLower(node.Value)]:
		node.Style = 0
	case (node.Kind == yaml.MappingNode || node.Kind == yaml.SequenceNode) && len(node.Content) > 0 && !flat:
		node.Style &^= yaml.FlowStyle
	}
}

// reserved has the words that are not strings in YAML 1.1 or 1.2.
var reserved = map[string]bool{
	"yes": true, "no": true, "on": true, "off": true, "true": true, "false": true, "null": true, "y": true, "n": true,
}
