package main

import (
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// encoders are the formats of --output that are for programs.
var encoders = map[string]func(w io.Writer, value any) error{"json": printJSON, "yaml": printYAML}

// outputEncoder returns the encoder for the format of --output, or nil for a table.
func outputEncoder(c *cli.Context) (encode func(w io.Writer, value any) error, err error) {
	format := c.String(outputFlag.Name)
	encode, ok := encoders[format]
	if !ok && format != "table" {
		return nil, &spec.Fault{Key: "--output", Value: format, Allowed: "table, json or yaml"}
	}
	return encode, nil
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printYAML prints the JSON of a value as YAML, with the same keys in the same order. JSON is YAML in another style.
func printYAML(w io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	document := new(yaml.Node)
	if err := yaml.Unmarshal(escapeControls(text), document); err != nil {
		return err
	}
	setBlockStyle(document)
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(document); err != nil {
		return err
	}
	return encoder.Close()
}

// escapeControls escapes characters that JSON allows in a string and YAML does not.
func escapeControls(text []byte) []byte {
	var escaped []byte
	for _, r := range string(text) {
		if r >= 0x7f && r <= 0x9f || r == 0xfffe || r == 0xffff {
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		} else {
			escaped = utf8.AppendRune(escaped, r)
		}
	}
	return escaped
}

// setBlockStyle removes braces, brackets, and the quotes of keys. The quotes of values stay, because the encoder would
// leave out some that readers of YAML 1.1 need, such as those of "no".
func setBlockStyle(node *yaml.Node) {
	if node.Kind != yaml.ScalarNode {
		node.Style = 0
	}
	for i, child := range node.Content {
		setBlockStyle(child)
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			child.Style = 0
		}
	}
}
