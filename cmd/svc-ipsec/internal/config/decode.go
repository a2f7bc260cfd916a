package config

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// maxText is the maximum length in bytes of any string, except for secrets.
const maxText = 1024

// absent reports whether a value is missing. null counts as missing, because a YAML key without a value becomes null.
func absent(raw json.RawMessage) bool {
	trimmed := bytes.TrimSpace(raw)
	return len(trimmed) == 0 || string(trimmed) == "null"
}

// object decodes the members of a JSON object. Unlike encoding/json it refuses unknown keys, keys that differ in case,
// and duplicate keys.
func object(key string, raw json.RawMessage, allowed []string) (map[string]json.RawMessage, error) {
	members, err := jsonform.Members(raw)
	if err != nil {
		return nil, &spec.Fault{Key: key, Value: kind(raw), Allowed: "an object"}
	}
	fields := map[string]json.RawMessage{}
	for _, m := range members {
		if !slices.Contains(allowed, m.Key) {
			return nil, &spec.Fault{Key: key + ": unknown key", Value: m.Key, Allowed: strings.Join(allowed, ", ")}
		}
		if _, twice := fields[m.Key]; twice {
			return nil, &spec.Fault{Key: key + ": key", Value: m.Key, Allowed: "each key once"}
		}
		fields[m.Key] = m.Value
	}
	return fields, nil
}

func array(key string, raw json.RawMessage, maximum int) ([]json.RawMessage, error) {
	if absent(raw) {
		return nil, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || len(items) > maximum {
		return nil, &spec.Fault{Key: key, Value: kind(raw), Allowed: "a list of at most " + strconv.Itoa(maximum)}
	}
	return items, nil
}

// text decodes a string. It returns "" if the value is absent. The fault for a value of another type does not contain
// the value.
func text(key string, raw json.RawMessage) (string, error) {
	if absent(raw) {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", &spec.Fault{Key: key, Value: kind(raw), Allowed: "a string"}
	}
	if len(s) > maxText {
		return "", &spec.Fault{Key: key, Value: s, Allowed: "at most " + strconv.Itoa(maxText) + " bytes"}
	}
	return s, nil
}

func texts(key string, raw json.RawMessage, maximum int) ([]string, error) {
	items, err := array(key, raw, maximum)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, item := range items {
		s, err := text(key, item)
		if err != nil {
			return nil, err
		}
		values = append(values, s)
	}
	return values, nil
}

// choice decodes a string that must be one of allowed. If the value is absent, it returns the first one.
func choice(key string, raw json.RawMessage, allowed ...string) (string, error) {
	s, err := text(key, raw)
	if err != nil {
		return "", err
	}
	if s == "" {
		return allowed[0], nil
	}
	if !slices.Contains(allowed, s) {
		return "", &spec.Fault{Key: key, Value: s, Allowed: strings.Join(allowed, ", ")}
	}
	return s, nil
}

func number(key string, raw json.RawMessage, minimum, maximum, defaultValue int) (int, error) {
	if absent(raw) {
		return defaultValue, nil
	}
	var n int
	if err := json.Unmarshal(raw, &n); err != nil || n < minimum || n > maximum {
		value := kind(raw)
		if err == nil {
			value = strconv.Itoa(n)
		}
		allowed := "a number from " + strconv.Itoa(minimum) + " to " + strconv.Itoa(maximum)
		return 0, &spec.Fault{Key: key, Value: value, Allowed: allowed}
	}
	return n, nil
}

func boolean(key string, raw json.RawMessage, defaultValue bool) (bool, error) {
	if absent(raw) {
		return defaultValue, nil
	}
	var b bool
	if err := json.Unmarshal(raw, &b); err != nil {
		return false, &spec.Fault{Key: key, Value: kind(raw), Allowed: "true or false"}
	}
	return b, nil
}

// kind returns the type of a JSON value as text for faults that must not contain the value.
func kind(raw json.RawMessage) string {
	trimmed := bytes.TrimSpace(raw)
	switch {
	case absent(raw):
		return "absent"
	case trimmed[0] == '{':
		return "an object"
	case trimmed[0] == '[':
		return "a list"
	case trimmed[0] == '"':
		return "a string"
	case trimmed[0] == 't' || trimmed[0] == 'f':
		return "a boolean"
	default:
		return "a number"
	}
}
