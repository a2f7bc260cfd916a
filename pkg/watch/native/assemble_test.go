package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// memoryReader is an NSDB in memory. The value of a key is YAML, "plain" for PlainPort, or "!text" for an object whose
// read fails with the text.
type memoryReader struct {
	objects   map[Key]string
	reads     map[Key]int
	beforeGet func(key Key, reads int) // called before each read, to simulate concurrent writers
}

func (m *memoryReader) Get(_ context.Context, key Key) (*Document, error) {
	if m.reads == nil {
		m.reads = map[Key]int{}
	}
	m.reads[key]++
	if m.beforeGet != nil {
		m.beforeGet(key, m.reads[key])
	}
	value, ok := m.objects[key]
	if !ok {
		return nil, ErrAbsent
	}
	if text, bad := strings.CutPrefix(value, "!"); bad {
		return nil, errors.New(text)
	}
	if value == "plain" {
		return PlainPort, nil
	}
	return Parse([]byte(value), YAML)
}

func (m *memoryReader) Bindings(_ context.Context, host spec.HostID) (ids []string, err error) {
	if text, bad := strings.CutPrefix(m.objects[BindingsKey(host)], "!"); bad {
		return nil, errors.New(text)
	}
	for key := range m.objects {
		if id, ok := strings.CutPrefix(string(key), string(BindingsKey(host))+"/"); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// newMemoryReader returns an NSDB with the container c of the host h, some objects of the host x, and the given
// changes. An empty value removes an object.
func newMemoryReader(changes map[Key]string) *memoryReader {
	m := &memoryReader{objects: map[Key]string{
		"hosts/h":          "{id: h, containerWeight: 3, containerLimit: 5}",
		"bindings/h/p":     "{portId: p, hostId: h, interfaceName: vpn-1, containerId: c, addresses: [169.254.0.1/30]}",
		"containers/c":     "{id: c, serviceType: IPSEC, groupId: g, configurationId: k}",
		"configurations/k": "{id: k, psk: hunter2}",
		"bindings/x/q":     "{portId: q, hostId: x, interfaceName: vpn-2, containerId: d}",
		"containers/d":     "{id: d}",
	}}
	for key, value := range changes {
		m.objects[key] = value
		if value == "" {
			delete(m.objects, key)
		}
	}
	return m
}

func TestAssembleResolvesReferences(t *testing.T) {
	m := newMemoryReader(nil)
	got, faults := Assemble(t.Context(), m, "h")
	want := spec.Desired{
		Host: spec.Host{ID: "h", Weight: 3, Limit: 5},
		Bindings: []spec.Binding{{
			PortID: "p",
			Container: spec.Container{
				PortID: "p", HostID: "h", InterfaceName: "vpn-1", ContainerID: "c",
				ServiceType: "IPSEC", GroupID: "g", ConfigurationID: "k",
			},
			Port:          spec.Port{Addresses: []string{"169.254.0.1/30"}},
			Configuration: []byte(`{"id":"k","psk":"hunter2"}`),
		}},
	}
	if !reflect.DeepEqual(got, want) || len(faults) > 0 {
		t.Errorf("got  %+v %v\nwant %+v", got, faults, want)
	}
	wantReads := map[Key]int{
		"hosts/h": 1, "bindings/h/p": 1, "containers/c": 1, "configurations/k": 1, "config/default": 1,
		"config/hosts/h": 1,
	}
	if !reflect.DeepEqual(m.reads, wantReads) {
		t.Errorf("reads %v, want one read of each object of this host", m.reads)
	}
}

func TestFaultyObjectsAreMarked(t *testing.T) {
	const unread, unknown, refused = spec.Unread, spec.Unknown, spec.Refused
	rows := []struct {
		name    string
		changes map[Key]string
		reading spec.Reading
		fault   string
	}{
		{
			"an unreadable binding", map[Key]string{"bindings/h/p": "!permission denied"}, unread,
			"bindings/h/p: permission denied",
		},
		{
			"a binding with a misspelt key",
			map[Key]string{"bindings/h/p": "{portId: p, hostId: h, interfacename: x, containerId: c}"}, unread,
			"bindings/h/p: unknown key",
		},
		{
			"a binding of another port", map[Key]string{"bindings/h/p": "{portId: q, hostId: h}"}, unread,
			"bindings/h/p: portId",
		},
		{
			"a binding with a hostile interface name",
			map[Key]string{"bindings/h/p": "{portId: p, hostId: h, interfaceName: ../x, containerId: c}"}, refused,
			`bindings/h/p: interfaceName "../x"`,
		},
		{
			"a binding with a hostile container id",
			map[Key]string{"bindings/h/p": "{portId: p, hostId: h, interfaceName: vpn-1, containerId: ../d}"}, refused,
			`bindings/h/p: containerId "../d"`,
		},
		{
			"a missing container", map[Key]string{"containers/c": ""}, unknown,
			"containers/c: no such object, and bindings/h/p names it",
		},
		{
			"an unreadable container", map[Key]string{"containers/c": "!is a directory"}, unknown,
			"containers/c: is a directory",
		},
		{"a container of another id", map[Key]string{"containers/c": "id: d"}, unknown, `containers/c: id "d"`},
		{
			"an incomplete container", map[Key]string{"containers/c": "{id: c, serviceType: IPSEC}"}, unknown,
			"containers/c: not set: groupId, configurationId",
		},
		{
			"a container with an invalid type",
			map[Key]string{"containers/c": "{id: c, serviceType: ipsec, groupId: g, configurationId: k}"}, refused,
			"containers/c: serviceType",
		},
		{
			"a container with an invalid group",
			map[Key]string{"containers/c": "{id: c, serviceType: IPSEC, groupId: ../g, configurationId: k}"}, refused,
			"containers/c: groupId",
		},
		{
			"a container of another port",
			map[Key]string{"containers/c": "{id: c, serviceType: IPSEC, groupId: g, configurationId: k, portId: q}"},
			unknown, `containers/c: portId "q": allowed: p`,
		},
		{
			"a missing configuration", map[Key]string{"configurations/k": ""}, unknown,
			"configurations/k: no such object, and containers/c names it",
		},
		{
			"an unreadable configuration", map[Key]string{"configurations/k": "!input/output error"}, unknown,
			"configurations/k: input/output error",
		},
		{
			"a configuration of another id", map[Key]string{"configurations/k": "{id: hunter2}"}, unknown,
			"configurations/k: id",
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			desired, faults := Assemble(t.Context(), newMemoryReader(row.changes), "h")
			if desired.Unread != "" || len(desired.Bindings) != 1 || len(faults) != 1 {
				t.Fatalf("got %+v %v", desired, faults)
			}
			b := desired.Bindings[0]
			if b.PortID != "p" || b.Reading != row.reading || !strings.HasPrefix(b.Fault, row.fault) ||
				b.Fault != faults[0].String() {
				t.Errorf("got %+v %v", b, faults)
			}
			if strings.Contains(b.Fault, "hunter2") {
				t.Errorf("the fault contains a value of a configuration: %s", b.Fault)
			}
			wantNamed := row.reading == unknown || strings.Contains(row.fault, "containers/") ||
				strings.Contains(row.fault, "containerId")
			if named := b.Container.InterfaceName != ""; named != wantNamed {
				t.Errorf("interface name %q", b.Container.InterfaceName)
			}
		})
	}
}

func TestHostIsUnreadIfIts(t *testing.T) {
	rows := []struct {
		name   string
		key    Key
		value  string
		unread string
	}{
		{"object is missing", "hosts/h", "", "hosts/h: no Host object"},
		{"object cannot be read", "hosts/h", "!input/output error", "hosts/h: input/output error"},
		{"object has a misspelt key", "hosts/h", "{id: h, weight: 1}", "hosts/h: unknown key"},
		{"object has a refused value", "hosts/h", "{id: h, containerWeight: -1}", "hosts/h: containerWeight"},
		{"bindings cannot be listed", "bindings/h", "!permission denied", "bindings/h: permission denied"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			desired, faults := Assemble(t.Context(), newMemoryReader(map[Key]string{row.key: row.value}), "h")
			if !strings.HasPrefix(desired.Unread, row.unread) || len(desired.Bindings) > 0 ||
				desired.Host.ID != "h" || len(faults) != 1 {
				t.Errorf("got %+v %v", desired, faults)
			}
		})
	}
}

func TestPlainPortIsIgnored(t *testing.T) {
	m := newMemoryReader(map[Key]string{"bindings/h/p": "{portId: p, hostId: h, interfaceName: tap0}"})
	desired, faults := Assemble(t.Context(), m, "h")
	if desired.Unread != "" || len(desired.Bindings) > 0 || len(faults) > 0 {
		t.Errorf("got %+v %v", desired, faults)
	}
}

func TestInvalidPortIDIsReportedAndIgnored(t *testing.T) {
	m := newMemoryReader(map[Key]string{"bindings/h/../../x": "{}", "bindings/h/a\nb": "{}"})
	desired, faults := Assemble(t.Context(), m, "h")
	if len(desired.Bindings) != 1 || desired.Bindings[0].PortID != "p" || len(faults) != 2 {
		t.Errorf("got %+v %v", desired, faults)
	}
	if m.reads["bindings/h/../../x"] > 0 {
		t.Error("the object of the invalid port id was read")
	}
}

func TestBindingsAreSortedByPort(t *testing.T) {
	changes := map[Key]string{"bindings/h/p": ""}
	for _, id := range []string{"b", "a", "c", "B", "10", "9"} {
		key := BindingKey("h", spec.PortID(id))
		changes[key] = fmt.Sprintf("{portId: %q, hostId: h, interfaceName: i, containerId: c}", id)
	}
	desired, _ := Assemble(t.Context(), newMemoryReader(changes), "h")
	var got []string
	for _, b := range desired.Bindings {
		got = append(got, string(b.PortID))
	}
	if want := []string{"10", "9", "B", "a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestMissingObjectCausesSecondRead(t *testing.T) {
	t.Run("that follows the new reference", func(t *testing.T) {
		m := newMemoryReader(map[Key]string{"containers/c": ""})
		m.beforeGet = func(key Key, reads int) {
			if key == "bindings/h/p" && reads == 2 {
				m.objects[key] = "{portId: p, hostId: h, interfaceName: vpn-1, containerId: e}"
				m.objects["containers/e"] = "{id: e, serviceType: IPSEC, groupId: g, configurationId: k}"
			}
		}
		desired, faults := Assemble(t.Context(), m, "h")
		first := desired.Bindings[0]
		if len(faults) > 0 || first.Container.ContainerID != "e" || first.Reading != spec.Complete {
			t.Errorf("got %+v %v", desired, faults)
		}
	})
	t.Run("that finds the binding removed", func(t *testing.T) {
		m := newMemoryReader(map[Key]string{"configurations/k": ""})
		m.beforeGet = func(key Key, reads int) {
			if reads == 2 {
				delete(m.objects, "bindings/h/p")
			}
		}
		desired, faults := Assemble(t.Context(), m, "h")
		if len(faults) > 0 || len(desired.Bindings) > 0 {
			t.Errorf("got %+v %v", desired, faults)
		}
	})
	t.Run("and a limited number of further reads", func(t *testing.T) {
		m := newMemoryReader(map[Key]string{"containers/c": ""})
		m.beforeGet = func(key Key, reads int) {
			if key == "bindings/h/p" {
				m.objects[key] = fmt.Sprintf("{portId: p, hostId: h, interfaceName: vpn-1, containerId: x%d}", reads)
			}
		}
		desired, _ := Assemble(t.Context(), m, "h")
		if m.reads["bindings/h/p"] != maxResolves || desired.Bindings[0].Reading != spec.Unknown {
			t.Errorf("got %+v after %v", desired, m.reads)
		}
	})
}

// recordingHandler is a slog.Handler that records the level and attribute values of each record in one line.
type recordingHandler struct{ got []string }

func (l *recordingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (l *recordingHandler) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *recordingHandler) WithGroup(string) slog.Handler            { return l }
func (l *recordingHandler) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String()
	r.Attrs(func(a slog.Attr) bool { line += " " + a.Value.String(); return true })
	l.got = append(l.got, line)
	return nil
}

func TestFaultLogLogsFaultAndItsEndOnce(t *testing.T) {
	var handler recordingHandler
	faultLog := NewFaultLog(slog.New(&handler))
	a, b, c := Fault{"k/a", "one"}, Fault{"k/a", "two"}, Fault{"k/c", "three"}
	steps := []struct {
		name   string
		faults []Fault
		whole  bool
		want   []string
	}{
		{"a new fault is logged", []Fault{a}, true, []string{"WARN k/a one"}},
		{"a known fault is not logged", []Fault{a, a}, true, nil},
		{"another fault of the object is logged", []Fault{b, c}, true, []string{"WARN k/a two", "WARN k/c three"}},
		{
			"while the host is unread, no fault of another object ends",
			[]Fault{{"hosts/h", "gone"}}, false, []string{"WARN hosts/h gone"},
		},
		{"a fault from before that is not logged again", []Fault{b}, true, []string{"INFO hosts/h", "INFO k/c"}},
		{"the end of a fault is logged", nil, true, []string{"INFO k/a"}},
		{"the end is logged once", nil, true, nil},
	}
	for _, step := range steps {
		handler.got = nil
		faultLog.Update(step.faults, step.whole)
		slices.Sort(handler.got)
		if !slices.Equal(handler.got, step.want) {
			t.Errorf("%s: got %q, want %q", step.name, handler.got, step.want)
		}
	}
}

func TestHostSettingsOverrideDefaults(t *testing.T) {
	both := map[Key]string{
		"config/default": "{log-level: warn, status-interval: 1m}",
		"config/hosts/h": "{log-level: debug}",
		"config/hosts/x": "{status-interval: 7s}",
	}
	with := func(key Key, value string) map[Key]string {
		changes := maps.Clone(both)
		changes[key] = value
		return changes
	}
	rows := []struct {
		name    string
		changes map[Key]string
		want    map[string]string
		fault   string
	}{
		{"no settings", nil, nil, ""},
		{"both", both, map[string]string{"log-level": "debug", "status-interval": "1m0s"}, ""},
		{
			"the default's alone", with("config/hosts/h", ""),
			map[string]string{"log-level": "warn", "status-interval": "1m0s"}, "",
		},
		{"the host's alone", with("config/default", ""), map[string]string{"log-level": "debug"}, ""},
		{
			"a refused one of the host's", with("config/hosts/h", "{log-level: loud}"),
			map[string]string{"log-level": "warn", "status-interval": "1m0s"},
			`config/hosts/h: log-level "loud": allowed: debug, info, warn, error`,
		},
		{
			"an unreadable one", with("config/default", "!permission denied"), map[string]string{"log-level": "debug"},
			"config/default: permission denied",
		},
		{
			"a missing host", with("hosts/h", ""), map[string]string{"log-level": "debug", "status-interval": "1m0s"},
			"hosts/h: no Host object: nothing is known of this host, and all stays as it is",
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			desired, faults := Assemble(t.Context(), newMemoryReader(row.changes), "h")
			if !maps.Equal(desired.Settings, row.want) || (desired.Settings == nil) != (row.want == nil) {
				t.Errorf("got %v", desired.Settings)
			}
			if row.fault == "" && len(faults) > 0 ||
				row.fault != "" && (len(faults) != 1 || faults[0].String() != row.fault) {
				t.Errorf("faults %v", faults)
			}
		})
	}
}

func TestAssemblerFindsChangesMadeWhileHostWasUnread(t *testing.T) {
	m := newMemoryReader(nil)
	assembler := NewAssembler(m, "h")
	if got, _ := assembler.Assemble(t.Context(), nil); len(got.Bindings) != 1 {
		t.Fatalf("%+v", got)
	}
	host := m.objects["hosts/h"]
	delete(m.objects, "hosts/h")
	m.objects["configurations/k"] = "{id: k, psk: another}"
	got, _ := assembler.Assemble(t.Context(), map[Key]bool{"hosts/h": true, "configurations/k": true})
	if got.Unread == "" {
		t.Fatalf("%+v", got)
	}
	m.objects["hosts/h"] = host
	got, _ = assembler.Assemble(t.Context(), map[Key]bool{"hosts/h": true})
	want, _ := Assemble(t.Context(), m, "h")
	if !got.Equal(&want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestAssemblerReadsOnlyChangedObjects(t *testing.T) {
	m := newMemoryReader(nil)
	assembler := NewAssembler(m, "h")
	assembler.Assemble(t.Context(), nil)
	m.reads = nil
	assembler.Assemble(t.Context(), map[Key]bool{"containers/d": true})
	want := map[Key]int{"hosts/h": 1, "config/default": 1, "config/hosts/h": 1}
	if !reflect.DeepEqual(m.reads, want) {
		t.Errorf("reads %v", m.reads)
	}
	if got := assembler.Objects("p"); !slices.Equal(got, []Key{"bindings/h/p", "containers/c", "configurations/k"}) {
		t.Errorf("objects %v", got)
	}
	delete(m.objects, "bindings/h/p")
	got, _ := assembler.Assemble(t.Context(), map[Key]bool{"bindings/h/p": true})
	if len(got.Bindings) > 0 || len(assembler.Objects("p")) > 0 {
		t.Errorf("got %+v, objects %v", got, assembler.Objects("p"))
	}
}

func TestRemovedPlainPortIsForgotten(t *testing.T) {
	m := newMemoryReader(map[Key]string{"bindings/h/tap": "plain", "bindings/h/tap2": "plain"})
	assembler := NewAssembler(m, "h")
	assembler.Assemble(t.Context(), nil)
	m.reads = nil
	delete(m.objects, "bindings/h/tap")
	assembler.Assemble(t.Context(), map[Key]bool{"bindings/h/tap": true})
	if got := assembler.Remade(); !slices.Equal(got, []string{"tap"}) || len(assembler.Objects("tap")) > 0 {
		t.Errorf("resolved again or removed: %q, objects %v", got, assembler.Objects("tap"))
	}
	if m.reads["bindings/h/tap2"] > 0 {
		t.Error("the other port was read again")
	}
	m.objects["bindings/h/tap2"] = m.objects["bindings/h/p"]
	assembler.Assemble(t.Context(), map[Key]bool{"bindings/h/tap2": true})
	if got := assembler.Remade(); !slices.Equal(got, []string{"tap2"}) {
		t.Errorf("resolved again: %q", got)
	}
}
