package model

import (
	"maps"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestHostSettingsOverrideTemplateAndDefault(t *testing.T) {
	own, mappings := midonet.HostSettings(hostID), midonet.TemplateMappings()
	edge, all := midonet.TemplateSettings("edge"), midonet.TemplateSettings("default")
	whole := map[string]string{
		"log-level": "debug", "log-level.containers": "warn", "log-level.containers.ipsec.ipsec-pluto": "debug",
		"status-interval": "2.5s",
	}
	without := func(key, value string) map[string]string {
		m := maps.Clone(whole)
		if m[key] = value; value == "" {
			delete(m, key)
		}
		return m
	}
	with := func(pairs ...string) map[string]string {
		m := maps.Clone(whole)
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	data := func(path, data string) func(*fakeSnapshot) {
		return func(s *fakeSnapshot) { s.data[path] = []byte(data) }
	}
	for _, row := range []struct {
		name   string
		change func(*fakeSnapshot)
		want   map[string]string
		fault  string
	}{
		{"all of them", func(*fakeSnapshot) {}, whole, ""},
		{"no node of the host's", func(s *fakeSnapshot) { delete(s.data, own) }, without("log-level", "error"), ""},
		{"no mappings", func(s *fakeSnapshot) { delete(s.data, mappings) }, without("status-interval", "10s"), ""},
		{"another host's mapping", data(mappings, `{"x": "edge"}`), without("status-interval", "10s"), ""},
		{"a template that does not exist", data(mappings, `{"`+string(hostID)+`": "gone"}`),
			without("status-interval", "10s"), ""},
		{"a mapping to a path", data(mappings, `{"`+string(hostID)+`": "../x"}`), without("status-interval", "10s"),
			mappings + ": " + string(hostID) + ` "\"../x\"": allowed: the name of a template`},
		{"an unknown level", data(own, `{"agent": {"loggers": {"root": "LOUD"}}}`), without("log-level", "error"),
			own + `: agent.loggers.root "\"LOUD\"": allowed: debug, info, warn, error`},
		{"a level that is a number", data(own, `{"agent": {"loggers": {"root": 5}}}`), without("log-level", "error"),
			own + `: agent.loggers.root "5": allowed`},
		{
			"a level that is null", data(own, `{"agent": {"loggers": {"root": null}}}`),
			without("log-level", "error"), "",
		},
		{"an empty node", data(own, ""), without("log-level", "error"), ""},
		{"HOCON with a substitution", data(own, `{"a": ${b}}`), without("log-level", "error"),
			own + ": is not one JSON object"},
		{"HOCON without braces", data(own, `agent.loggers.root: DEBUG`), without("log-level", "error"),
			own + ": is not one JSON object"},
		{"a list", data(own, `[]`), without("log-level", "error"), own + ": is not one JSON object"},
		{"a plain value in the way", data(own, `{"agent": {"loggers": 7}}`), without("log-level", "error"), ""},
		{"a key twice", data(own, `{"agent": {"loggers": {"root": "WARN"}}, "agent": {"x": 1}}`),
			without("log-level", "warn"), ""},
		{"an interval with a HOCON unit",
			data(edge, `{"agent": {"containers": {"ipsec": {"status_update_interval": "1 minute"}}}}`),
			without("status-interval", "1m0s"), ""},
		{"an interval without a unit",
			data(edge, `{"agent": {"containers": {"ipsec": {"status_update_interval": "1500"}}}}`),
			without("status-interval", "1.5s"), ""},
		{"an interval of 0", data(edge, `{"agent": {"containers": {"ipsec": {"status_update_interval": "0s"}}}}`),
			without("status-interval", "10s"),
			edge + `: agent.containers.ipsec.status_update_interval "\"0s\"": allowed: a time from`},
		{"an interval that overflows",
			data(edge, `{"agent": {"containers": {"ipsec": {"status_update_interval": "999999999999999 days"}}}}`),
			without("status-interval", "10s"), edge + `: agent.containers`},
		{"a node that cannot be read", func(s *fakeSnapshot) { s.states[all] = Unreadable },
			map[string]string{"log-level": "debug", "status-interval": "2.5s"}, all + ": no permission"},
		{"a logger without the suffix root",
			data(own, `{"agent": {"loggers": {"org": {"midonet": {"containers": "DEBUG"}}}}}`),
			with("log-level", "error", "log-level.containers", "debug"), ""},
		{"a logger below one without the suffix",
			data(own, `{"agent": {"loggers": {"org": {"midonet": {"containers": {"ipsec": "ERROR"}}}}}}`),
			with("log-level", "error", "log-level.containers.ipsec", "error"), ""},
		{"a logger with the suffix that has none below it",
			data(
				own, `{"agent": {"loggers": {"org": {"midonet": {"containers": {"ipsec": {"ipsec-pluto": {"root": `+
					`"WARN"}}}}}}}}`),
			with("log-level", "error", "log-level.containers.ipsec.ipsec-pluto", "warn"), ""},
		{"both forms, of which the later counts",
			data(
				own, `{"agent": {"loggers": {"org": {"midonet": {"containers": {"root": "WARN"}, `+
					`"containers": "ERROR"}}}}}`),
			with("log-level", "error", "log-level.containers", "error"), ""},
		{"an unknown level without the suffix",
			data(own, `{"agent": {"loggers": {"org": {"midonet": {"containers": "LOUD"}}}}}`),
			with("log-level", "error"), own + `: agent.loggers.org.midonet.containers "\"LOUD\"": allowed: debug`},
		{"loggers that the supervisor does not have",
			data(
				own, `{"agent": {"loggers": {"root": "DEBUG", "org": {"midonet": {"container": "DEBUG", `+
					`"containers": {"haproxy": {"root": "INFO"}, "a\nb": 1}}}}}}`),
			whole,
			own +
				`: loggers that the supervisor does not have, whose levels have no effect: ` +
				`agent.loggers.org.midonet.container, agent.loggers.org.midonet.containers.haproxy.root, ` +
				`"agent.loggers.org.midonet.containers.a\nb": known: agent.loggers.root, ` +
				`agent.loggers.org.midonet.containers.root`},
		{"nothing at all", func(s *fakeSnapshot) { delete(s.data, all); delete(s.data, own); delete(s.data, mappings) },
			nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := fixture(t)
			row.change(s)
			r := Assemble(midonet, s, hostID)
			if got := r.Desired.Settings; !maps.Equal(got, row.want) || (got == nil) != (row.want == nil) {
				t.Errorf("got %v, want %v", got, row.want)
			}
			if got := faultTexts(r); (got == "") != (row.fault == "") || !strings.HasPrefix(got, row.fault) {
				t.Errorf("faults: %s", got)
			}
			if r.Desired.Bindings[0].Reading != spec.Complete {
				t.Errorf("a container depends on a setting: %+v", r.Desired.Bindings[0])
			}
		})
	}
}

func TestEditSettingKeepsOtherSettings(t *testing.T) {
	data, err := EditSetting(nil, "log-level.containers.ipsec.ipsec-pluto", "debug")
	want := `{
    "agent": {
        "loggers": {
            "org": {
                "midonet": {
                    "containers": {
                        "ipsec": {
                            "ipsec-pluto": "DEBUG"
`
	if err != nil || !strings.HasPrefix(string(data), want) {
		t.Fatalf("%v\n%s", err, data)
	}
	before := `{"z": 1.50, "agent": {"x": [1, {"é": "<&>"}], "containers": {"ipsec": ` +
		`{"status_update_interval": "5s", "logging_timeout": "3s"}}}, "a": null}`
	data, err = EditSetting([]byte(before), "status-interval", "2m30s")
	want = `{
    "z": 1.50,
    "agent": {
        "x": [
            1,
            {
                "é": "<&>"
            }
        ],
        "containers": {
            "ipsec": {
                "status_update_interval": "150s",
                "logging_timeout": "3s"
            }
        }
    },
    "a": null
}
`
	if err != nil || string(data) != want {
		t.Fatalf("%v\n%s", err, data)
	}
	for key, value := range map[string]string{
		"log-level": "warn", "log-level.containers": "error", "log-level.containers.ipsec": "info",
		"status-interval": "2.5s",
	} {
		if data, err = EditSetting(data, key, value); err != nil {
			t.Fatal(err)
		}
		if got, found, err := Setting(data, key); err != nil || !found || got != value {
			t.Errorf("%s: %q %v %v", key, got, found, err)
		}
	}
	if _, found, err := Setting([]byte(`{}`), "log-level"); found || err != nil {
		t.Error(found, err)
	}
	for key, value := range map[string]string{
		"log-level": "loud", "status-interval": "0s", "log-level.containers.haproxy": "info", "": "x",
	} {
		if _, err := EditSetting(nil, key, value); !isFault(err) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := EditSetting([]byte("a: 1"), "log-level", "info"); err == nil || isFault(err) {
		t.Error(err)
	}
	if _, _, err := Setting(nil, "log-level.containers.haproxy"); !isFault(err) {
		t.Error(err)
	}
}

func TestEditSettingReplacesOtherFormOfLogger(t *testing.T) {
	for _, row := range []struct {
		name, before, key string
		want              map[string]string
	}{
		{"a logger in the other form is replaced",
			`{"agent": {"loggers": {"org": {"midonet": {"containers": "DEBUG"}}}}}`,
			"log-level.containers",
			map[string]string{"log-level.containers": "warn"}},
		{"a logger above keeps its level",
			`{"agent": {"loggers": {"org": {"midonet": {"containers": "DEBUG"}}}}}`,
			"log-level.containers.ipsec.ipsec-pluto",
			map[string]string{"log-level.containers": "debug", "log-level.containers.ipsec.ipsec-pluto": "warn"}},
		{"a logger that has a form for others below it",
			`{"agent": {"loggers": {"org": {"midonet": {"containers": {"ipsec": {"ipsec-pluto": {"root": "INFO"}, ` +
				`"root": "INFO"}}}}}}}`,
			"log-level.containers.ipsec.ipsec-pluto",
			map[string]string{"log-level.containers.ipsec": "info", "log-level.containers.ipsec.ipsec-pluto": "warn"}},
	} {
		data, err := EditSetting([]byte(row.before), row.key, "warn")
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		got := map[string]string{}
		for key := range settings {
			value, found, err := Setting(data, key)
			if err != nil {
				t.Errorf("%s: %s: %v", row.name, key, err)
			}
			if found {
				got[key] = value
			}
		}
		if !maps.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v\n%s", row.name, got, row.want, data)
		}
	}
}
