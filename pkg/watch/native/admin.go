package native

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Setting returns what a scope's document says under a canonical key, and whether it says anything. A value that is
// refused is told as a fault: it is not in effect.
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

// HostMember returns which member of a host's object holds a field, after a check of both.
func HostMember(field string, n int) (member string, err error) {
	if err := spec.CheckHostField(field, n); err != nil {
		return "", err
	}
	if field == spec.HostWeight {
		return "containerWeight", nil
	}
	return "containerLimit", nil
}

// With is the document's JSON with one member set: in its place if it is there, else behind the others, which stay as they
// are, those that nobody knows included. A nil document is an empty one.
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

// Same says whether two documents say the same, in whatever order their keys stand.
func (d *Document) Same(other *Document) bool {
	return sameJSON(d.JSON, other.JSON)
}

func sameJSON(a, b json.RawMessage) bool {
	sorted := func(raw json.RawMessage) []byte {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var value any
		if decoder.Decode(&value) != nil {
			return raw
		}
		plain, err := json.Marshal(value)
		if err != nil {
			return raw
		}
		return plain
	}
	return bytes.Equal(a, b) || bytes.Equal(sorted(a), sorted(b))
}

func jsonString(s string) []byte {
	w := new(writer)
	_ = w.putString(s) // into memory, a string: cannot fail below 1 MiB
	return w.out.Bytes()
}

// ParseKey checks that a key is that of an object that an export carries, with good ids, and returns how its document is
// checked.
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

const keyAllowed = "hosts/<id>, bindings/<hostId>/<portId>, containers/<id>, groups/<id>, configurations/<id>, config/default, config/hosts/<hostId>"

// ParseObjects checks objects that are to be imported: the keys, each once; the values, as documents in the order of the
// objects. The first fault is returned, with its key; it repeats nothing of a configuration.
func ParseObjects(objects []spec.Object) ([]*Document, error) {
	documents := make([]*Document, len(objects))
	seen := map[string]bool{}
	for i, object := range objects {
		check, err := ParseKey(object.Key)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", i+1, err)
		}
		if seen[object.Key] {
			return nil, fmt.Errorf("%s: stands twice: allowed: once", object.Key)
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

// ImportOrder is the order in which objects are written, as indices: what is referred to comes before what refers to it, so
// that a host that watches meets no reference that leads nowhere; and hosts last, since of a host whose object is there the
// bindings that are not are unwanted.
func ImportOrder(objects []spec.Object) []int {
	rank := func(key string) int {
		folder, _, _ := strings.Cut(key, "/")
		return slices.Index([]string{Config, Configurations, Groups, Containers, Bindings, Hosts}, folder)
	}
	order := make([]int, len(objects))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(objects[a].Key) - rank(objects[b].Key) })
	return order
}
