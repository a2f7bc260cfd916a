package native

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Faults are the faults of one object.
type Faults struct {
	Form  []*spec.Fault // the value is not an object of the kind and id in its key
	Value []*spec.Fault // a check refuses a value in the object
}

// All returns all faults, those of form first.
func (f Faults) All() []*spec.Fault { return slices.Concat(f.Form, f.Value) }

func (f *Faults) addValue(err error) {
	if err == nil {
		return
	}
	var fault *spec.Fault
	if !errors.As(err, &fault) {
		fault = &spec.Fault{Key: "object", Allowed: "valid values"} // err may contain a secret
	}
	f.Value = append(f.Value, fault)
}

// checked returns the value that a check of pkg/spec accepted. If the check refuses it, checked adds the fault and
// returns "", so that the value is not used anywhere.
func checked[T ~string](faults *Faults, parse func(key, value string) (T, error), key, value string) T {
	parsed, err := parse(key, value)
	if err != nil {
		faults.addValue(err)
		return ""
	}
	return parsed
}

// field is a key that an object may have, and the variable for its value: *string, *int or *[]string.
type field struct {
	key    string
	target any
}

// decode reads the members of a flat object. A missing key and null keep the default in the field. Unlike
// encoding/json, decode distinguishes upper and lower case in keys, and an unknown key is a fault, so that the default
// is not used for a misspelt key.
func (d *Document) decode(fields []field) (faults Faults) {
	allowed := make([]string, len(fields))
	for i, f := range fields {
		allowed[i] = f.key
		raw, ok := d.members[f.key]
		if !ok || string(raw) == "null" {
			continue
		}
		if allowedValue := decodeValue(raw, f.target); allowedValue != "" {
			faults.Form = append(faults.Form, &spec.Fault{Key: f.key, Value: describe(raw), Allowed: allowedValue})
		}
	}
	var unknown []string
	for key := range d.members {
		if !slices.Contains(allowed, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		fault := &spec.Fault{Key: "unknown key", Value: shownKey(key), Allowed: strings.Join(allowed, ", ")}
		faults.Form = append(faults.Form, fault)
	}
	return faults
}

// describe describes a value of the wrong type for a fault. It includes the value only if it is a number, true, false
// or null. Strings, lists and mappings may contain a secret that was written in the wrong place.
func describe(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "a mapping"
	case '[':
		return "a list"
	case '"':
		return "a string"
	default:
		return string(raw)
	}
}

// decodeValue stores a value in target. If the value has another type, it returns a description of what is allowed.
func decodeValue(raw json.RawMessage, target any) (allowed string) {
	switch target := target.(type) {
	case *string:
		if raw[0] != '"' || json.Unmarshal(raw, target) != nil {
			return "a string; one that looks like a number in quotes"
		}
	case *int:
		n, err := strconv.Atoi(string(raw))
		if err != nil {
			return "a whole number"
		}
		*target = n
	case *[]string:
		var list []string
		if raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
			return "a list of strings"
		}
		*target = list
	}
	return ""
}

// checkID adds a fault if the id inside an object is not the one in its key, as in a copied file whose id was not
// edited.
func (f *Faults) checkID(key, inside, inKey string) {
	if inside != inKey {
		f.Form = append(f.Form, &spec.Fault{Key: key, Value: inside, Allowed: inKey + ", as in the object's key"})
	}
}
