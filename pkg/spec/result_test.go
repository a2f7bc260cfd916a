package spec

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

const wholeResult = `{"cniVersion":"1.1.0",
"interfaces":[{"name":"svc0","mac":"ca:08:1a:94:29:0e","sandbox":"/run/netns/vpn"}],
"ips":[{"address":"169.254.0.2/30","interface":0}],"routes":[{"dst":"10.2.0.0/24"}],
"units":["svc-vpn.service","svc-vpn:dns.service"],"health":{"code":"RUNNING","message":"up"}}`

func TestParseResultReadsEveryField(t *testing.T) {
	result, err := ParseResult([]byte(wholeResult), "vpn")
	if err != nil {
		t.Fatal(err)
	}
	if len(result.CNI.Interfaces) != 1 || len(result.CNI.IPs) != 1 || len(result.CNI.Routes) != 1 ||
		len(result.Units) != 2 || result.Health == nil || result.Health.Message != "up" {
		t.Errorf("%+v", result)
	}
	if string(result.Raw) != wholeResult {
		t.Error("Raw, which becomes prevResult, differs from the output")
	}
}

func TestParseResultChecksTheResult(t *testing.T) {
	with := func(more string) string { return `{"cniVersion":"1.1.0"` + more + `}` }
	for _, r := range []struct {
		name   string
		stdout string
		fault  string // a part of the expected error, or "" if the result must pass
	}{
		{"a result with a version alone passes", with(``), ""},
		{"unknown keys pass, because CNI may add keys", with(`,"somethingNew":{}`), ""},
		{"an empty list of units passes", with(`,"units":[]`), ""},
		{"no output is refused", ``, "result"},
		{"garbage is refused", `ok`, "result"},
		{"a list is refused", `[]`, "result"},
		{"half an object is refused", `{"cniVersion":"1.1.0"`, "result"},
		{"two objects are refused", with(``) + with(``), "result"},
		{"a missing version is refused", `{}`, "cniVersion"},
		{"null is refused", `null`, "cniVersion"},
		{"another version is refused", `{"cniVersion":"0.4.0"}`, "cniVersion"},
		{"a unit of another container is refused", with(`,"units":["svc-other.service"]`), "units"},
		{"a unit of another program is refused", with(`,"units":["sshd.service"]`), "units"},
		{"the supervisor's own unit is refused", with(`,"units":["svc-supervisor.service"]`), "units"},
		{"one bad unit among good ones is refused", with(`,"units":["svc-vpn.service","a\nb"]`), "units"},
		{"a unit that is not a string is refused", with(`,"units":[1]`), "result"},
		{"an invalid address is refused", with(`,"ips":[{"address":"x"}]`), "result"},
		{"health with an unknown code is refused", with(`,"health":{"code":"FINE"}`), "health.code"},
		{"health that is null passes", with(`,"health":null`), ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			result, err := ParseResult([]byte(r.stdout), "vpn")
			switch {
			case r.fault == "" && err != nil:
				t.Error(err)
			case r.fault != "" && (err == nil || !strings.Contains(err.Error(), r.fault)):
				t.Errorf("want an error that contains %q, got %v", r.fault, err)
			case err != nil && (result != nil || strings.Contains(err.Error(), "\n")):
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

func TestHealthCheck(t *testing.T) {
	for _, r := range []struct {
		name   string
		health string
		key    string
	}{
		{"running passes", `{"code":"RUNNING"}`, ""},
		{"starting passes", `{"code":"STARTING"}`, ""},
		{"an error passes", `{"code":"ERROR","message":"no ESP"}`, ""},
		{"no code is refused", `{}`, "code"},
		{"STOPPING is refused, the scheduler would move the container to another host", `{"code":"STOPPING"}`, "code"},
		{"STOPPED is refused", `{"code":"STOPPED"}`, "code"},
		{"lower case is refused", `{"code":"running"}`, "code"},
		{"connections pass",
			`{"code":"RUNNING","connections":[{"id":"a","status":"ACTIVE"},{"id":"b","status":"DOWN"}]}`, ""},
		{"a connection without status is refused", `{"code":"RUNNING","connections":[{"id":"a"}]}`,
			"connections.status"},
		{"a hostile interface name is refused", `{"code":"RUNNING","interfaceName":"../x"}`, "interfaceName"},
		{"again now passes", `{"code":"RUNNING","again":{"after":0}}`, ""},
		{"again in a year passes", `{"code":"RUNNING","again":{"after":31536000}}`, ""},
		{"again in the past is refused", `{"code":"RUNNING","again":{"after":-1}}`, "again.after"},
		{"again after more seconds than time.Duration can hold is refused, it would be due at once",
			`{"code":"RUNNING","again":{"after":10000000000}}`, "again.after"},
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
	connections := []Connection{
		{ID: "a", Status: Active, Pairs: []Pair{{Local: "l", Peer: "p", BytesIn: 1, BytesOut: 2}}}, {ID: "b"},
	}
	copies := WithoutCounters(connections)
	if len(copies) != 2 || copies[0].Pairs[0] != (Pair{Local: "l", Peer: "p"}) || copies[1].ID != "b" {
		t.Errorf("%+v", copies)
	}
	if connections[0].Pairs[0].BytesIn != 1 {
		t.Error("WithoutCounters changed the counters of its argument, which ps shows")
	}
	if WithoutCounters(nil) != nil {
		t.Error("nil became an empty list, which is published as a different status")
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
		// The result is written to the record and read again after a crash.
		content, err := json.MarshalIndent(result.Raw, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseResult(content, "vpn"); err != nil {
			t.Errorf("%q passed, and its Raw does not: %v", stdout, err)
		}
	})
}

func TestLastValidOfAnyCaseIsNotInRaw(t *testing.T) {
	for _, key := range []string{"lastValid", "LastValid", "LASTVALID"} {
		stdout := `{"cniVersion":"1.1.0","` + key + `":{"psk":"secret"},"units":["svc-a.service"]}`
		result, err := ParseResult([]byte(stdout), "a")
		if err != nil || string(result.LastValid) != `{"psk":"secret"}` ||
			strings.Contains(string(result.Raw), "secret") {
			t.Errorf("%s: %+v, %v", key, result, err)
		}
	}
}
