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

// Format is how a value is written.
type Format int

// The formats of a file; etcd's values are JSON.
const (
	JSON Format = iota
	YAML
)

// Document is the value of one key, parsed. It never changes.
type Document struct {
	JSON    json.RawMessage            // the whole value, without white space; keys in their order, numbers as written
	members map[string]json.RawMessage // of the outermost object; slices of JSON
	order   []member                   // the same, in their order
}

// Parse reads one value. Its errors are one line, name the place, and never repeat a value.
func Parse(value []byte, format Format) (*Document, error) {
	if len(value) > MaxSize {
		return nil, tooLarge("")
	}
	value = bytes.TrimPrefix(value, []byte("\xef\xbb\xbf")) // some editors' byte order mark
	if !utf8.Valid(value) {
		return nil, errors.New("is not UTF-8: allowed: YAML or JSON in UTF-8")
	}
	if len(bytes.TrimSpace(value)) == 0 {
		return nil, errors.New("is empty: allowed: a mapping of keys to values")
	}
	w := new(writer)
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

// keyName is how members that hold a key are called. A path to a key (pskFile) is none.
var keyName = regexp.MustCompile(`(?i)(psk|key|secret|password|passphrase|token)s?(base64|hex)?$`)

// HoldsKeys reports whether a member at any depth holds a key or a password. What the configuration of a service type means
// is not known here, so the name of the member decides.
func (d *Document) HoldsKeys() bool {
	var value any
	return json.Unmarshal(d.JSON, &value) == nil && holdsKeys(value)
}

func holdsKeys(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			if keyName.MatchString(name) && member != nil && member != "" || holdsKeys(member) {
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

// writer builds a document's JSON. It counts what it writes, so that an alias costs what it stands for.
type writer struct {
	out     bytes.Buffer
	path    []string // where it is, for faults: "connections", "[1]", "psk"
	members []member // of the outermost object; nil as long as that is none
}

type member struct {
	key        string
	start, end int
}

// put writes something that is JSON already.
func (w *writer) put(s string) error {
	if w.out.Len()+len(s) > MaxSize {
		return tooLarge(" with its aliases written out")
	}
	w.out.WriteString(s)
	return nil
}

func (w *writer) putString(s string) error {
	encoder := json.NewEncoder(&w.out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return err
	}
	w.out.Truncate(w.out.Len() - 1) // Encode's newline
	return w.put("")
}

// object writes an object; each calls its argument for every member, which writes the member's value with its own.
func (w *writer) object(each func(member func(key string, value func() error) error) error) error {
	outermost := len(w.path) == 0
	if outermost {
		w.members = []member{}
	}
	seen := map[string]bool{}
	if err := w.put("{"); err != nil {
		return err
	}
	err := each(func(key string, value func() error) error {
		if err := w.enter(pathKey(key)); err != nil {
			return err
		}
		defer w.leave()
		if seen[key] {
			return w.fault("the key stands twice: allowed: once")
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

// list writes a list; each calls its argument for every element.
func (w *writer) list(each func(element func(value func() error) error) error) error {
	count := 0
	if err := w.put("["); err != nil {
		return err
	}
	err := each(func(value func() error) error {
		if err := w.enter("[" + strconv.Itoa(count) + "]"); err != nil {
			return err
		}
		defer w.leave()
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

func (w *writer) enter(name string) error {
	if len(w.path) == MaxDepth {
		return fmt.Errorf("is nested deeper than %d levels: allowed: %[1]d", MaxDepth)
	}
	w.path = append(w.path, name)
	return nil
}

func (w *writer) leave() { w.path = w.path[:len(w.path)-1] }

// fault names the place that the writer is at.
func (w *writer) fault(text string) error {
	place := strings.ReplaceAll(strings.Join(w.path, "."), ".[", "[")
	if place == "" {
		return errors.New(text)
	}
	return errors.New(place + ": " + text)
}

// keyForm is what the name of a member looks like. What looks otherwise is not repeated: the lines of many files, those of
// /etc/shadow among them, are keys to a parser of YAML.
var keyForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,39}$`)

const hiddenKey = "(a key that is no name)"

// pathKey is a key as a fault shows it.
func pathKey(key string) string {
	if keyForm.MatchString(key) {
		return key
	}
	return hiddenKey
}
