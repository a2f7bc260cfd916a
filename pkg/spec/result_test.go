package spec

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

const wholeResult = `{"cniVersion":"1.1.0","interfaces":[{"name":"svc0","mac":"ca:08:1a:94:29:0e","sandbox":"/run/netns/vpn"}],
"ips":[{"address":"169.254.0.2/30","interface":0}],"routes":[{"dst":"10.2.0.0/24"}],
"units":["svc-vpn.service","svc-vpn:dns.service"],"health":{"code":"RUNNING","message":"up"}}`

func TestAResultIsReadWhole(t *testing.T) {
	result, err := ParseResult([]byte(wholeResult), "vpn")
	if err != nil {
		t.Fatal(err)
	}
	if len(result.CNI.Interfaces) != 1 || len(result.CNI.IPs) != 1 || len(result.CNI.Routes) != 1 ||
		len(result.Units) != 2 || result.Health == nil || result.Health.Message != "up" {
		t.Errorf("%+v", result)
	}
	if string(result.Raw) != wholeResult {
		t.Error("prevResult would not be what was printed")
	}
}

func TestAResultIsChecked(t *testing.T) {
	with := func(more string) string { return `{"cniVersion":"1.1.0"` + more + `}` }
	for _, r := range []struct {
		name   string
		stdout string
		fault  string // "" passes, else a part of the error
	}{
		{"a version alone passes: CHECK alone tells", with(``), ""},
		{"keys that CNI may add pass", with(`,"somethingNew":{}`), ""},
		{"no units pass", with(`,"units":[]`), ""},
		{"nothing is refused", ``, "result"},
		{"garbage is refused", `ok`, "result"},
		{"a list is refused", `[]`, "result"},
		{"half an object is refused", `{"cniVersion":"1.1.0"`, "result"},
		{"two objects are refused", with(``) + with(``), "result"},
		{"no version is refused", `{}`, "cniVersion"},
		{"null is refused", `null`, "cniVersion"},
		{"another version is refused", `{"cniVersion":"0.4.0"}`, "cniVersion"},
		{"another container's unit is refused", with(`,"units":["svc-other.service"]`), "units"},
		{"a foreign unit is refused", with(`,"units":["sshd.service"]`), "units"},
		{"the supervisor's own unit is refused", with(`,"units":["svc-supervisor.service"]`), "units"},
		{"one bad unit among good ones is refused", with(`,"units":["svc-vpn.service","a\nb"]`), "units"},
		{"a unit that is no string is refused", with(`,"units":[1]`), "result"},
		{"an address that is none is refused", with(`,"ips":[{"address":"x"}]`), "result"},
		{"a health that is none is refused", with(`,"health":{"code":"FINE"}`), "health.code"},
		{"health of null is no health", with(`,"health":null`), ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			result, err := ParseResult([]byte(r.stdout), "vpn")
			switch {
			case r.fault == "" && err != nil:
				t.Error(err)
			case r.fault != "" && (err == nil || !strings.Contains(err.Error(), r.fault)):
				t.Errorf("want a fault of %s, got %v", r.fault, err)
			case err != nil && (result != nil || strings.Contains(err.Error(), "\n")):
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

func TestHealthIsChecked(t *testing.T) {
	for _, r := range []struct {
		name   string
		health string
		key    string
	}{
		{"running passes", `{"code":"RUNNING"}`, ""},
		{"starting passes", `{"code":"STARTING"}`, ""},
		{"an error passes", `{"code":"ERROR","message":"no ESP"}`, ""},
		{"no code is refused", `{}`, "code"},
		{"STOPPING is refused: it would unbind the container", `{"code":"STOPPING"}`, "code"},
		{"STOPPED is refused", `{"code":"STOPPED"}`, "code"},
		{"lower case is refused", `{"code":"running"}`, "code"},
		{"connections pass", `{"code":"RUNNING","connections":[{"id":"a","status":"ACTIVE"},{"id":"b","status":"DOWN"}]}`, ""},
		{"a connection without status is refused", `{"code":"RUNNING","connections":[{"id":"a"}]}`, "connections.status"},
		{"a hostile interface name is refused", `{"code":"RUNNING","interfaceName":"../x"}`, "interfaceName"},
		{"again now passes", `{"code":"RUNNING","again":{"after":0}}`, ""},
		{"again in a year passes", `{"code":"RUNNING","again":{"after":31536000}}`, ""},
		{"again in the past is refused", `{"code":"RUNNING","again":{"after":-1}}`, "again.after"},
		{"again beyond what a time holds is refused, it would be now", `{"code":"RUNNING","again":{"after":10000000000}}`, "again.after"},
	} {
		t.Run(r.name, func(t *testing.T) {
			health := new(Health)
			if err := json.Unmarshal([]byte(r.health), health); err != nil {
				t.Fatal(err)
			}
			checkKey(t, health.Check(), r.key)
		})
	}
}

func TestCountersAreNotPublished(t *testing.T) {
	connections := []Connection{{ID: "a", Status: Active, Pairs: []Pair{{Local: "l", Peer: "p", BytesIn: 1, BytesOut: 2}}}, {ID: "b"}}
	copies := WithoutCounters(connections)
	if len(copies) != 2 || copies[0].Pairs[0] != (Pair{Local: "l", Peer: "p"}) || copies[1].ID != "b" {
		t.Errorf("%+v", copies)
	}
	if connections[0].Pairs[0].BytesIn != 1 {
		t.Error("the counters that ps shows are gone too")
	}
	if WithoutCounters(nil) != nil {
		t.Error("no connections became an empty list, which is another status")
	}
}

func FuzzParseResult(f *testing.F) {
	f.Add([]byte(wholeResult))
	f.Add([]byte(`{"cniVersion":"1.1.0","interfaces":[null],"ips":[null],"routes":[null]}`))
	f.Add([]byte(`{"cniVersion":"1.1.0","health":{"code":"RUNNING","again":{"after":1e300}}}`))
	f.Add([]byte(`null`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stdout []byte) {
		result, err := ParseResult(bytes.Clone(stdout), "vpn")
		if err != nil {
			return
		}
		for _, unit := range result.Units {
			if !Name("vpn").OwnsUnit(unit) {
				t.Errorf("%q passed", unit)
			}
		}
		// A record holds it, and is read again after a crash.
		content, err := json.MarshalIndent(result.Raw, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseResult(content, "vpn"); err != nil {
			t.Errorf("%q passed once only: %v", stdout, err)
		}
	})
}
