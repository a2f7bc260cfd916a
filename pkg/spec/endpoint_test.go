package spec

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestEndpoints(t *testing.T) {
	port := Port{Addresses: []string{"169.254.0.1/30", "fd00::1/64"}}
	for _, row := range []struct {
		name          string
		port          Port
		configuration string
		want          []Endpoint
	}{
		{"each external IP with each port address", port,
			`{"externalIps": ["192.0.2.1", "2001:DB8::1"], "externalMac": "AC:CA:BA:00:00:01", "connections": [7]}`,
			[]Endpoint{
				{"192.0.2.1", "ac:ca:ba:00:00:01", "169.254.0.1"}, {"192.0.2.1", "ac:ca:ba:00:00:01", "fd00::1"},
				{"2001:db8::1", "ac:ca:ba:00:00:01", "169.254.0.1"}, {"2001:db8::1", "ac:ca:ba:00:00:01", "fd00::1"},
			}},
		{"no MAC", Port{Addresses: []string{"169.254.0.1/30"}},
			`{"externalIps": ["192.0.2.1"]}`,
			[]Endpoint{{"192.0.2.1", "", "169.254.0.1"}}},
		{"one of two connections is up", Port{Addresses: []string{"169.254.0.1/30"}},
			`{"externalIps": ["192.0.2.1"], "connections": [{"adminStateUp": false}, {"id": "a"}]}`,
			[]Endpoint{{"192.0.2.1", "", "169.254.0.1"}}},
		{"no connection is up", port, `{"externalIps": ["192.0.2.1"], "connections": [{"adminStateUp": false}]}`, nil},
		{"no connection", port, `{"externalIps": ["192.0.2.1"], "connections": []}`, nil},
		{"no external IP", port, `{"externalMac": "AC:CA:BA:00:00:01"}`, nil},
		{"no port address", Port{}, `{"externalIps": ["192.0.2.1"]}`, nil},
		{"a string instead of a list", port, `{"externalIps": "192.0.2.1"}`, nil},
		{"values that are not addresses", Port{Addresses: []string{"x"}}, `{"externalIps": ["192.0.2.1", "x"]}`, nil},
		{"no configuration", port, ``, nil},
	} {
		if got := Endpoints(row.port, json.RawMessage(row.configuration)); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
	e := Endpoint{"192.0.2.1", "ac:ca\n", "169.254.0.1"}
	if got, want := e.String(), `external IP 192.0.2.1, MAC "ac:ca\n" and port address 169.254.0.1`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
