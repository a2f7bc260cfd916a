package native

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Setting returns the value of a canonical key in the document of a scope, and whether the key is set. If the value is
// refused, and so not in effect, the error is its fault.
func (d *Document) Setting(key string) (value string, ok bool, err error) {
	settings, faults := d.Settings()
	if value, ok = settings[key]; ok {
		return value, true, nil
	}
	for _, fault := range faults.All() {
		if fault.Key == key {
			return "", false, fault
		}
	}
	return "", false, nil
}

// HostMember returns the member of the Host object for a field. It checks the field and its new value n.
func HostMember(field string, n int) (member string, err error) {
	if err := spec.CheckHostField(field, n); err != nil {
		return "", err
	}
	if field == spec.HostWeight {
		return "containerWeight", nil
	}
	return "containerLimit", nil
}

// With returns the JSON of the document with one member set. An existing member keeps its place, and a new one is the
// last. Other members are not changed, including unknown ones. A nil document counts as an empty one.
func (d *Document) With(key string, value json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	put := func(key string, value []byte) {
		separator := byte(',')
		if out.Len() == 0 {
			separator = '{'
		}
		out.WriteByte(separator)
		out.Write(jsonString(key))
		out.WriteByte(':')
		out.Write(value)
	}
	if d != nil {
		for _, m := range d.order {
			if m.key == key {
				put(m.key, value)
			} else {
				put(m.key, d.members[m.key])
			}
		}
	}
	if d == nil || d.members[key] == nil {
		put(key, value)
	}
	out.WriteByte('}')
	return out.Bytes()
}

// Same reports whether two documents are equal, regardless of the order of their keys.
func (d *Document) Same(other *Document) bool {
	return jsonform.Equal(d.JSON, other.JSON)
}

func jsonString(s string) []byte {
	w := new(jsonWriter)
	_ = w.putString(s) // cannot fail: a string shorter than 1 MiB, written to memory
	return w.out.Bytes()
}

// ParseKey checks that a key is that of an object and has valid ids. Statuses are no objects. It returns the function
// that checks the document of the key.
func ParseKey(key string) (check func(*Document) Faults, err error) {
	parts := strings.Split(key, "/")
	for _, id := range parts[1:] {
		if _, err := spec.ParseID[string]("key "+key, id); err != nil {
			return nil, err
		}
	}
	id := parts[len(parts)-1]
	switch {
	case len(parts) == 2 && parts[0] == Hosts:
		return func(d *Document) Faults { _, f := d.Host(spec.HostID(id)); return f }, nil
	case len(parts) == 3 && parts[0] == Bindings:
		return func(d *Document) Faults { _, f := d.Binding(spec.HostID(parts[1]), spec.PortID(id)); return f }, nil
	case len(parts) == 2 && parts[0] == Containers:
		return func(d *Document) Faults { _, f := d.Container(spec.ContainerID(id)); return f }, nil
	case len(parts) == 2 && parts[0] == Groups:
		return func(d *Document) Faults { _, f := d.Group(spec.GroupID(id)); return f }, nil
	case len(parts) == 2 && parts[0] == Configurations:
		return func(d *Document) Faults { _, f := d.Configuration(spec.ConfigurationID(id)); return f }, nil
	case key == string(SettingsKey(spec.SettingDefault)), len(parts) == 3 && parts[0] == Config && parts[1] == Hosts:
		return func(d *Document) Faults { _, f := d.Settings(); return f }, nil
	}
	return nil, &spec.Fault{Key: "key", Value: key, Allowed: keyAllowed}
}

const keyAllowed = "hosts/<id>, bindings/<hostId>/<portId>, containers/<id>, groups/<id>, configurations/<id>, " +
	"config/default, config/hosts/<hostId>"

// ParseObjects checks objects before an import and returns their documents in the same order. Each key must be valid
// and occur only once. The error has the first fault with its key, and no text of a configuration.
func ParseObjects(objects []spec.Object) ([]*Document, error) {
	documents := make([]*Document, len(objects))
	seen := map[string]bool{}
	for i, object := range objects {
		check, err := ParseKey(object.Key)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", i+1, err)
		}
		if seen[object.Key] {
			return nil, fmt.Errorf("%s: duplicate object", object.Key)
		}
		seen[object.Key] = true
		if documents[i], err = Parse(object.Value, JSON); err != nil {
			return nil, fmt.Errorf("%s: %w", object.Key, err)
		}
		if faults := check(documents[i]).All(); len(faults) > 0 {
			return nil, fmt.Errorf("%s: %w", object.Key, faults[0])
		}
	}
	return documents, nil
}

// ImportOrder returns the order in which an import writes the objects, as indices. An object is written before the
// objects that refer to it, so that watching hosts find no dangling references. Host objects are last: once a Host
// object exists, the supervisor of the host removes containers that have no binding, so the bindings must exist before.
func ImportOrder(objects []spec.Object) []int {
	rank := func(key string) int {
		directory, _, _ := strings.Cut(key, "/")
		return slices.Index([]string{Config, Configurations, Groups, Containers, Bindings, Hosts}, directory)
	}
	order := make([]int, len(objects))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(objects[a].Key) - rank(objects[b].Key) })
	return order
}
