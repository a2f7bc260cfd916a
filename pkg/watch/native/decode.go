package native

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Faults is what is wrong with one object.
type Faults struct {
	Form  []*spec.Fault // it cannot be taken for the object that its key names
	Value []*spec.Fault // it can, and a check of pkg/spec refuses a value in it
}

// All lists the faults, those of form first.
func (f Faults) All() []*spec.Fault { return slices.Concat(f.Form, f.Value) }

func (f *Faults) value(err error) {
	if fault, ok := err.(*spec.Fault); ok {
		f.Value = append(f.Value, fault)
	}
}

// keep returns what a check of pkg/spec let pass; what it did not is noted and left empty, so that it goes no further.
func keep[T ~string](faults *Faults, parse func(key, value string) (T, error), key, value string) T {
	parsed, err := parse(key, value)
	if err != nil {
		faults.value(err)
		return ""
	}
	return parsed
}

// field is one key that an object may have, and where its value goes: *string, *int or *[]string.
type field struct {
	key  string
	into any
}

// decode reads the members of a flat object. An absent key and null leave the field's default. Keys are told apart by
// case (encoding/json does not), and one that is not listed is a fault: a misspelt option must not be the default.
func (d *Document) decode(fields []field) (faults Faults) {
	allowed := make([]string, len(fields))
	for i, f := range fields {
		allowed[i] = f.key
		raw, ok := d.members[f.key]
		if !ok || string(raw) == "null" {
			continue
		}
		if wanted := decodeValue(raw, f.into); wanted != "" {
			faults.Form = append(faults.Form, &spec.Fault{Key: f.key, Value: form(raw), Allowed: wanted})
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
		faults.Form = append(faults.Form, &spec.Fault{Key: "unknown key", Value: pathKey(key), Allowed: strings.Join(allowed, ", ")})
	}
	return faults
}

// form describes a value of a wrong form for a fault. Only a number, true, false and null are repeated: text, and whatever a
// list or a mapping holds, may be a secret that was written in the wrong place.
func form(raw json.RawMessage) string {
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

// decodeValue returns what is wanted where the value is something else.
func decodeValue(raw json.RawMessage, into any) (wanted string) {
	switch target := into.(type) {
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

// sameID holds that the id inside an object is the one in its key: a copied file whose id was not edited is refused.
func (f *Faults) sameID(key, inside, inKey string) {
	if inside != inKey {
		f.Form = append(f.Form, &spec.Fault{Key: key, Value: inside, Allowed: inKey + ", as in the object's key"})
	}
}
