package native

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yaml converts YAML to JSON. It uses the nodes of the parser, because decoding into Go values (sigs.k8s.io/yaml 1.6.0)
// changes values silently: 18446744073709551616 to …552000, 1.10 to 1.1, 010 to 8, and `yes` to true. It refuses
// values for which YAML 1.1 and 1.2, or their parsers, disagree.
func (w *jsonWriter) yaml(value []byte) error {
	node, err := yamlNode(value)
	if err != nil {
		return err
	}
	return w.yamlValue(node)
}

// An error of the YAML parser may contain text of the document, such as the name of an anchor, and other versions of
// the parser may include more. So only its line number is passed on, and its text if it begins with one of parserTexts.
var (
	parserLine  = regexp.MustCompile(`^yaml: (line [0-9]+: )?`)
	parserTexts = []string{
		"could not find expected ':'",
		"did not find expected ',' or ']'",
		"did not find expected ',' or '}'",
		"did not find expected '-' indicator",
		"did not find expected key",
		"did not find expected node content",
		"did not find expected <document start>",
		"mapping values are not allowed in this context",
		"block sequence entries are not allowed in this context",
		"found character that cannot start any token",
		"found a tab character",
		"found unexpected end of stream",
		"found unexpected document indicator",
		"found unknown escape character",
		"found undefined tag handle",
		"control characters are not allowed",
		"exceeded max depth",
	}
)

// parserFault converts an error of the YAML parser to an error without text of the document.
func parserFault(err error) error {
	prefix := parserLine.FindStringSubmatch(err.Error())
	if prefix == nil {
		return errors.New("is not YAML: allowed: YAML or JSON")
	}
	rest := err.Error()[len(prefix[0]):]
	text := "it cannot be parsed from about here on"
	if strings.HasPrefix(rest, "unknown anchor ") {
		text = "an alias without its anchor"
	}
	for _, known := range parserTexts {
		if strings.HasPrefix(rest, known) {
			text = known
		}
	}
	return errors.New("is not YAML: " + prefix[1] + text)
}

// yamlNode parses one document without expanding aliases. The parser has its own limit of depth (10,000). yamlNode
// recovers from a panic of the parser, so that one object cannot end the process.
func yamlNode(value []byte) (node *yaml.Node, err error) {
	defer func() {
		if recover() != nil {
			node, err = nil, errors.New("the YAML parser failed: allowed: YAML or JSON")
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(value))
	first, second := new(yaml.Node), new(yaml.Node)
	err = decoder.Decode(first)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("is empty: allowed: a mapping of keys to values")
	}
	if err == nil {
		if err = decoder.Decode(second); err == nil {
			return nil, fmt.Errorf("line %d: a second document: allowed: one", second.Line)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, parserFault(err)
	}
	return first.Content[0], nil
}

func (w *jsonWriter) yamlValue(node *yaml.Node) error {
	switch node.Kind {
	case yaml.AliasNode:
		// The limit of depth stops an alias inside its own anchor. The limit of size stops a billion laughs attack.
		return w.yamlValue(node.Alias)
	case yaml.MappingNode:
		return w.yamlMapping(node)
	case yaml.SequenceNode:
		return w.list(func(element func(func() error) error) error {
			for _, child := range node.Content {
				if err := element(func() error { return w.yamlValue(child) }); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		return w.yamlScalar(node)
	}
}

func (w *jsonWriter) yamlMapping(node *yaml.Node) error {
	return w.object(func(member func(string, func() error) error) error {
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
				return w.yamlFault(key,
					"a key that is not a string: allowed: a string; one that looks like something else in quotes")
			}
			if err := member(key.Value, func() error { return w.yamlValue(value) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// jsonNumber matches numbers of JSON (RFC 8259, section 6).
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

func (w *jsonWriter) yamlScalar(node *yaml.Node) error {
	plain := node.Style == 0
	switch node.ShortTag() {
	case "!!str":
		if plain && yaml11Bool[strings.ToLower(node.Value)] {
			return w.yamlFault(node, "yes, no, on or off without quotes: allowed: true, false, or a string in quotes")
		}
		return w.putString(node.Value)
	case "!!timestamp":
		return w.putString(node.Value)
	case "!!null":
		return w.put("null")
	case "!!bool":
		if b := strings.ToLower(node.Value); b == "true" || b == "false" {
			return w.put(b)
		}
		return w.yamlFault(node, "a boolean that is neither true nor false: allowed: true, false")
	case "!!int", "!!float":
		if jsonNumber.MatchString(node.Value) {
			return w.put(node.Value)
		}
		return w.yamlFault(node,
			"a number that is not written as in JSON: allowed: a decimal number, or a string in quotes")
	default:
		return w.yamlFault(node, "a tag or a merge key: allowed: plain values, and aliases of whole values")
	}
}

// yaml11Bool has the words that YAML 1.1 reads as booleans and YAML 1.2 as strings.
var yaml11Bool = map[string]bool{"yes": true, "no": true, "on": true, "off": true}

func (w *jsonWriter) yamlFault(node *yaml.Node, text string) error {
	return fmt.Errorf("line %d: %w", node.Line, w.fault(text))
}
