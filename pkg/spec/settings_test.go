package spec

import "testing"

func TestParseSetting(t *testing.T) {
	rows := []struct {
		name, key, value, want string // want "": refused
	}{
		{"a level passes", "log-level", "debug", "debug"},
		{"a level in capital letters passes", "log-level", "WARN", "warn"},
		{"a level of all containers passes", "log-level.containers", "error", "error"},
		{"a level of a type passes", "log-level.containers.ipsec", "info", "info"},
		{"a level of a part of a type passes", "log-level.containers.ipsec.ipsec-pluto", "info", "info"},
		{"an interval passes", "status-interval", "90s", "1m30s"},
		{"an unknown level is refused", "log-level", "loud", ""},
		{"a level with an offset is refused", "log-level", "INFO+2", ""},
		{"an empty level is refused", "log-level", "", ""},
		{"a level of two lines is refused", "log-level", "info\n", ""},
		{"an interval without unit is refused", "status-interval", "5", ""},
		{"an interval of zero is refused", "status-interval", "0s", ""},
		{"a negative interval is refused", "status-interval", "-5s", ""},
		{"an interval of more than a day is refused", "status-interval", "25h", ""},
		{"an unknown logger is refused", "log-level.nsdb", "info", ""},
		{"a logger with too many parts is refused", "log-level.containers.a.b.c", "info", ""},
		{"a logger in capital letters is refused", "log-level.containers.IPSEC", "info", ""},
		{"a logger without a name is refused", "log-level.", "info", ""},
		{"an unknown key is refused", "check-interval", "5s", ""},
		{"an empty key is refused", "", "", ""},
		{"a key with a path is refused", "../log-level", "info", ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, err := ParseSetting(r.key, r.value)
			if got != r.want || (err != nil) != (r.want == "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestParseSettingScope(t *testing.T) {
	check(t, "scope", []row{
		{"the default passes", "default", true},
		{"a host id passes", "60df5fda-0b2a-4d3a-9a55-1f6f2b2f1a11", true},
		{"an empty scope is refused", "", false},
		{"a path is refused", "../default", false},
		{"two parts are refused", "hosts/h", false},
	}, func(s string) error { _, err := ParseSettingScope(s); return err })
}

func TestCheckHostField(t *testing.T) {
	for _, r := range []struct {
		field string
		n     int
		ok    bool
	}{
		{HostWeight, 0, true}, {HostWeight, 7, true}, {HostWeight, -1, false},
		{HostLimit, -1, true}, {HostLimit, 0, true}, {HostLimit, -2, false},
		{"containerWeight", 1, false}, {"", 1, false},
	} {
		if err := CheckHostField(r.field, r.n); (err == nil) != r.ok {
			t.Errorf("%s %d: %v", r.field, r.n, err)
		}
	}
}
