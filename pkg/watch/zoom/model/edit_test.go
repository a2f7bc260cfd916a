package model

import (
	"reflect"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestEditHostKeepsOtherFields(t *testing.T) {
	s := fixture(t)
	before := string(s.data[midonet.Object(Host, hostID)])
	data, err := EditHost([]byte(before), spec.HostWeight, 7)
	want := strings.Replace(before, "container_weight: 3", "container_weight: 7", 1)
	if err != nil || string(data) != want {
		t.Errorf("%v\n%s", err, data)
	}
	bare := "id {\n  msb: 1\n  lsb: 2\n}\nbrand_new: \"\\303\"\nport_ids {\n  msb: 3\n  lsb: 4\n}\n"
	data, err = EditHost([]byte(bare), spec.HostLimit, -1)
	if want := strings.Replace(bare, "port_ids", "container_limit: -1\nport_ids", 1); err != nil ||
		string(data) != want {
		t.Errorf("%v\n%s", err, data)
	}
	for _, row := range []struct {
		data, field string
		n           int
		isFault     bool
	}{
		{bare, spec.HostWeight, -1, true}, {bare, spec.HostLimit, -2, true}, {bare, "name", 1, true},
		{bare, spec.HostWeight, 1 << 31, true}, {"id {", spec.HostWeight, 1, false},
	} {
		if _, err := EditHost([]byte(row.data), row.field, row.n); err == nil || isFault(err) != row.isFault {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

// FuzzObjects checks that no data causes more than faults of one line, for any class of object.
func FuzzObjects(f *testing.F) {
	s := fixture(f)
	paths := sortedKeys(s.data)
	for i, path := range paths {
		f.Add(uint8(i), s.data[path])
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		path := paths[int(which)%len(paths)]
		before := s.data[path]
		defer func() { s.data[path] = before }()
		s.data[path] = data
		r := Assemble(midonet, s, hostID)
		for _, fault := range r.Faults {
			if text := fault.String(); strings.ContainsAny(text, "\n\r") || len(text) > 1000 {
				t.Fatalf("%q", text)
			}
		}
		if again := Assemble(midonet, s, hostID); !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v\n%+v", r, again)
		}
		_, faults := Export(midonet, s.data)
		for _, fault := range faults {
			if strings.ContainsAny(fault.String(), "\n\r") {
				t.Fatalf("%q", fault)
			}
		}
		_, _ = EditHost(data, spec.HostWeight, 1)
		_, _ = EditSetting(data, "log-level", "debug")
		_, _ = ReadContainerStatus(data)
		_, _ = ReadHostStatus(data)
	})
}
