package native

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestExportableLeavesOutFaultyObjects(t *testing.T) {
	good := map[string]string{
		"hosts/h":          `{"id":"h"}`,
		"bindings/h/p":     `{"portId":"p","hostId":"h","interfaceName":"vpn-1","containerId":"c"}`,
		"bindings/h/plain": `{"portId":"plain","hostId":"h","interfaceName":"tap0"}`,
		"containers/c":     `{"id":"c","serviceType":"IPSEC","groupId":"g","configurationId":"k","portId":"p"}`,
		"groups/g":         `{"id":"g","policy":"weighted","hostIds":["h"]}`,
		"configurations/k": `{"id":"k"}`,
		"config/default":   `{"log-level":"info"}`,
		"config/hosts/h":   `{"log-level":"info"}`,
	}
	all := func(keys ...string) []string { return append(keys, "config/default") }
	for _, row := range []struct {
		name    string
		change  map[string]string // "": removed
		leftOut map[Key]bool
		without []string // the keys that are not exported
		faults  []string
	}{
		{"valid objects", nil, nil, nil, nil},
		{"an object with a fault", map[string]string{"config/default": `{"log-level":"loud"}`}, nil, all(),
			[]string{`config/default: log-level "loud": allowed: debug`}},
		{
			"an unknown kind of key", map[string]string{"ports/r": `{}`}, nil, nil,
			[]string{`ports/r: key "ports/r": allowed: hosts/<id>`},
		},
		{
			"no configuration", map[string]string{"configurations/k": ""}, nil,
			[]string{"configurations/k", "containers/c", "bindings/h/p"},
			[]string{
				"containers/c: configurationId names configurations/k, which is not exported",
				"bindings/h/p: containerId names containers/c, which is not exported",
			}},
		{"no group", map[string]string{"groups/g": ""}, nil, []string{"groups/g", "containers/c", "bindings/h/p"},
			[]string{
				"containers/c: groupId names groups/g, which is not exported",
				"bindings/h/p: containerId names containers/c",
			}},
		{"a missing host of a binding, settings and a group", map[string]string{
			"bindings/x/q":   `{"portId":"q","hostId":"x","interfaceName":"tap0"}`,
			"config/hosts/x": `{"log-level":"info"}`,
			"groups/g":       `{"id":"g","policy":"weighted","hostIds":["x","h"]}`,
		}, nil, nil, []string{
			"bindings/x/q: hostId names hosts/x, which is not exported",
			"config/hosts/x: the key names hosts/x, which is not exported",
			"groups/g: hostIds names hosts/x, which is not exported: the host is left out of the group",
		}},
		{
			"an incomplete container", map[string]string{"containers/c": `{"id":"c","groupId":"g"}`}, nil,
			[]string{"bindings/h/p"},
			[]string{"bindings/h/p: containerId names containers/c, which has no serviceType, configurationId"}},
		{"a container of another port", map[string]string{
			"containers/c": `{"id":"c","serviceType":"IPSEC","groupId":"g","configurationId":"k","portId":"x"}`,
		}, nil,
			[]string{"bindings/h/p"}, []string{`bindings/h/p: containerId names containers/c, whose portId is "x"`}},
		{"a container that is bound twice", map[string]string{
			"containers/c": `{"id":"c","serviceType":"IPSEC","groupId":"g","configurationId":"k"}`,
			"bindings/h/q": `{"portId":"q","hostId":"h","interfaceName":"vpn-2","containerId":"c"}`,
		}, nil, nil, []string{`bindings/h/q: containerId "c" is also that of bindings/h/p`}},
		{"a name that a plain port also has", map[string]string{
			"bindings/h/a": `{"portId":"a","hostId":"h","interfaceName":"vpn-1"}`,
		}, nil, nil,
			[]string{`bindings/h/a: interfaceName "vpn-1" is also that of bindings/h/p`}},
		{
			"references of native objects to missing objects", map[string]string{"groups/g": ""}, map[Key]bool{},
			[]string{"groups/g"}, nil,
		},
		{
			"references of native objects to objects that are left out",
			map[string]string{"configurations/k": "", "groups/g": ""}, map[Key]bool{"configurations/k": true},
			[]string{"groups/g", "configurations/k", "containers/c", "bindings/h/p"},
			[]string{
				"containers/c: configurationId names configurations/k, which is not exported",
				"bindings/h/p: containerId names containers/c",
			}},
	} {
		t.Run(row.name, func(t *testing.T) {
			texts := maps.Clone(good)
			want := slices.Sorted(maps.Keys(good))
			want = slices.DeleteFunc(want, func(key string) bool { return slices.Contains(row.without, key) })
			maps.Copy(texts, row.change)
			var objects []spec.Object
			for key, text := range texts {
				if text != "" {
					objects = append(objects, spec.Object{Key: key, Value: json.RawMessage(text)})
				}
			}
			kept, faults := Exportable(objects, row.leftOut)
			var got []string
			for _, object := range kept {
				got = append(got, object.Key)
			}
			if !slices.Equal(got, want) {
				t.Errorf("exported %v\nwant     %v", got, want)
			}
			for _, text := range row.faults {
				if !slices.ContainsFunc(faults, func(f Fault) bool { return strings.HasPrefix(f.String(), text) }) {
					t.Errorf("no fault %q", text)
				}
			}
			if len(faults) != len(row.faults) {
				t.Errorf("faults %v", faults)
			}
			if row.leftOut == nil {
				if again, faults := Exportable(kept, nil); len(faults) > 0 || len(again) != len(kept) {
					t.Errorf("the exported objects have faults: %v", faults)
				}
			}
		})
	}
}

func TestIncompleteNamesTheFirstFault(t *testing.T) {
	if err := IncompleteUnless(nil); err != nil {
		t.Error(err)
	}
	faults := []Fault{{"a", "is bad"}, {"b", "is worse"}}
	if err := IncompleteUnless(faults); err.Error() != "a: is bad (and 1 more)" {
		t.Error(err)
	}
	if err := IncompleteUnless(faults[:1]); err.Error() != "a: is bad" {
		t.Error(err)
	}
}
