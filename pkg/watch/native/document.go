package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Format is the text format of a value.
type Format int

// The formats of files. Values in etcd are JSON.
const (
	JSON Format = iota
	YAML
)

// Document is the parsed value of one key. It is immutable.
type Document struct {
	JSON    json.RawMessage            // the whole value, without white space; keys in their order, numbers as written
	members map[string]json.RawMessage // of the outermost object; slices of JSON
	order   []member                   // the members in their order
}

// Parse parses one value. Its errors are one line, name the place in the value, and never contain text of the value
// other than the names of keys.
func Parse(value []byte, format Format) (*Document, error) {
	if len(value) > MaxSize {
		return nil, tooLarge("")
	}
	value = bytes.TrimPrefix(value, []byte("\xef\xbb\xbf")) // the byte order mark, which some editors write
	if !utf8.Valid(value) {
		return nil, errors.New("is not UTF-8: allowed: YAML or JSON in UTF-8")
	}
	if len(bytes.TrimSpace(value)) == 0 {
		return nil, errors.New("is empty: allowed: a mapping of keys to values")
	}
	w := new(jsonWriter)
	var err error
	if format == YAML {
		err = w.yaml(value)
	} else {
		err = w.json(value)
	}
	if err != nil {
		return nil, err
	}
	if w.members == nil {
		return nil, errors.New("is not a mapping: allowed: a mapping of keys to values")
	}
	document := &Document{JSON: w.out.Bytes(), members: map[string]json.RawMessage{}, order: w.members}
	for _, m := range w.members {
		document.members[m.key] = document.JSON[m.start:m.end:m.end]
	}
	return document, nil
}

// secretName matches the names of members that contain a key or password. It does not match the path of a key file
// (pskFile).
var secretName = regexp.MustCompile(`(?i)(psk|key|secret|password|passphrase|token)s?(base64|hex)?$`)

// HoldsKeys reports whether a member at any depth contains a key or a password. It decides by the name of the member,
// because the meaning of a configuration depends on the service type.
func (d *Document) HoldsKeys() bool {
	var value any
	return json.Unmarshal(d.JSON, &value) == nil && holdsKeys(value)
}

func holdsKeys(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			if secretName.MatchString(name) && member != nil && member != "" || holdsKeys(member) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, holdsKeys)
	}
	return false
}

func tooLarge(how string) error {
	return fmt.Errorf("is larger than 1 MiB%s: allowed: 1 MiB", how)
}

// jsonWriter writes the JSON of a document. It limits the size of its output, so that aliases count with their full
// size.
type jsonWriter struct {
	out     bytes.Buffer
	path    []string // the current place, for faults: "connections", "[1]", "psk"
	members []member // of the outermost value; nil unless that is an object
}

type member struct {
	key        string
	start, end int
}

// put writes text that is JSON already.
func (w *jsonWriter) put(s string) error {
	if w.out.Len()+len(s) > MaxSize {
		return tooLarge(" with its aliases expanded")
	}
	w.out.WriteString(s)
	return nil
}

func (w *jsonWriter) putString(s string) error {
	encoder := json.NewEncoder(&w.out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return err
	}
	w.out.Truncate(w.out.Len() - 1) // Encode appends a newline
	return w.put("")
}

// object writes an object. It calls each, which calls member for every member with its key and a function that writes
// the value.
func (w *jsonWriter) object(each func(member func(key string, value func() error) error) error) error {
	outermost := len(w.path) == 0
	if outermost {
		w.members = []member{}
	}
	seen := map[string]bool{}
	if err := w.put("{"); err != nil {
		return err
	}
	err := each(func(key string, value func() error) error {
		if err := w.push(shownKey(key)); err != nil {
			return err
		}
		defer w.pop()
		if seen[key] {
			return w.fault("duplicate key: allowed: once")
		}
		if len(seen) > 0 {
			if err := w.put(","); err != nil {
				return err
			}
		}
		seen[key] = true
		if err := w.putString(key); err != nil {
			return err
		}
		if err := w.put(":"); err != nil {
			return err
		}
		start := w.out.Len()
		if err := value(); err != nil {
			return err
		}
		if outermost {
			w.members = append(w.members, member{key, start, w.out.Len()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.put("}")
}

// list writes a list. It calls each, which calls element for every element with a function that writes the value.
func (w *jsonWriter) list(each func(element func(value func() error) error) error) error {
	count := 0
	if err := w.put("["); err != nil {
		return err
	}
	err := each(func(value func() error) error {
		if err := w.push("[" + strconv.Itoa(count) + "]"); err != nil {
			return err
		}
		defer w.pop()
		if count++; count > 1 {
			if err := w.put(","); err != nil {
				return err
			}
		}
		return value()
	})
	if err != nil {
		return err
	}
	return w.put("]")
}

func (w *jsonWriter) push(name string) error {
	if len(w.path) == MaxDepth {
		return fmt.Errorf("is nested deeper than %d levels: allowed: %[1]d", MaxDepth)
	}
	w.path = append(w.path, name)
	return nil
}

func (w *jsonWriter) pop() { w.path = w.path[:len(w.path)-1] }

// fault returns an error with the current place in the document.
func (w *jsonWriter) fault(text string) error {
	place := strings.ReplaceAll(strings.Join(w.path, "."), ".[", "[")
	if place == "" {
		return errors.New(text)
	}
	return errors.New(place + ": " + text)
}

// shownKeyPattern matches the member names that faults may contain. Other names are not shown, because a YAML parser
// takes the lines of many files for keys, including those of /etc/shadow.
var shownKeyPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,39}$`)

const hiddenKey = "(a key that is not shown)"

// shownKey returns the form in which a fault shows a key.
func shownKey(key string) string {
	if shownKeyPattern.MatchString(key) {
		return key
	}
	return hiddenKey
}
