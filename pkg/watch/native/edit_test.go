package native

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestEditKeepsOtherBytes(t *testing.T) {
	rows := []struct {
		name   string
		format Format
		text   string
		want   string
	}{
		{
			"a value before a comment", YAML,
			"# by hand\nid: h\ncontainerWeight: 3 # was 4\nname: left\n",
			"# by hand\nid: h\ncontainerWeight: 7 # was 4\nname: left\n",
		},
		{"a value in quotes", YAML, "id: h\ncontainerWeight: '3'\n", "id: h\ncontainerWeight: 7\n"},
		{
			"a value after characters of several bytes", YAML, "{name: \"Zürich 東京\", containerWeight: 3}",
			"{name: \"Zürich 東京\", containerWeight: 7}",
		},
		{"no such key", YAML, "id: h # us\n", "id: h # us\ncontainerWeight: 7\n"},
		{"no such key and no newline", YAML, "id: h", "id: h\ncontainerWeight: 7\n"},
		{"no such key in a block that is indented", YAML, "---\n  id: h\n", "---\n  id: h\n  containerWeight: 7\n"},
		{"no such key in braces", YAML, "{id: h}\n", "{containerWeight: 7, id: h}\n"},
		{"empty braces", YAML, "{}\n", "{containerWeight: 7}\n"},
		{
			"JSON", JSON, "{\n\t\"id\": \"h\",\n\t\"containerWeight\": 3\n}\n",
			"{\n\t\"id\": \"h\",\n\t\"containerWeight\": 7\n}\n",
		},
		{"JSON without the key", JSON, `{"id":"h"}`, `{"containerWeight": 7, "id":"h"}`},
		{
			"a number to its last digit elsewhere", YAML, "x: 18446744073709551617\ncontainerWeight: 1\n",
			"x: 18446744073709551617\ncontainerWeight: 7\n",
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, err := Edit([]byte(row.text), row.format, "containerWeight", json.RawMessage("7"))
			if err != nil || string(got) != row.want {
				t.Errorf("got  %q %v\nwant %q", got, err, row.want)
			}
		})
	}
}

func TestLossyEditIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a value over several lines": "id: h\ncontainerWeight: |\n  3\n  4\n",
		"an anchor":                  "containerWeight: &n 3\nid: h\nother: *n\n",
		"an alias":                   "other: &n 3\ncontainerWeight: *n\n",
		"an end of the document":     "id: h\n...\n",
		"a mapping":                  "containerWeight:\n  a: 1\nid: h\n",
	} {
		if got, err := Edit([]byte(text), YAML, "containerWeight", json.RawMessage("7")); !errors.Is(err,
			ErrLossyEdit) {
			t.Errorf("%s: got %q %v", name, got, err)
		}
	}
}

func TestPrintedYAMLParsesToSameDocument(t *testing.T) {
	for _, value := range []string{
		`{}`, `{"id":"k","psk":"yes","n":18446744073709551617,"f":1.10,"e":1e3,"nothing":null,"list":[],"o":{}}`,
		`{"a":[{"b":"1.0","c":["x","y:z","# no"]},[1,[2]]],"multi":"a\nb\n","blank":" ","date":"2026-01-01",` +
			`"hex":"0x10","tilde":"~","empty":""}`,
		`{"a key":"a: b","0":"=","<<":"x","é":"\u0001"}`,
	} {
		document, err := Parse([]byte(value), JSON)
		if err != nil {
			t.Fatal(err)
		}
		text := PrintYAML(document)
		again, err := Parse(text, YAML)
		if err != nil || string(again.JSON) != string(document.JSON) {
			t.Errorf("%s\nis printed as\n%s%v", value, text, err)
		}
	}
	document, _ := Parse([]byte(`{"id":"h","containerWeight":3,"addresses":["169.254.0.1/30"]}`), JSON)
	want := "id: h\ncontainerWeight: 3\naddresses: [\"169.254.0.1/30\"]\n"
	if got := string(PrintYAML(document)); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestParseObjectsChecksKeysAndValues(t *testing.T) {
	rows := []struct{ name, key, value, want string }{
		{"an unknown kind of key", "ports/p", `{}`, `key "ports/p": allowed: hosts/<id>`},
		{"a status", "status/hosts/h", `{}`, "allowed: hosts/<id>"},
		{"a key that leaves its directory", "hosts/../x", `{}`, "allowed: 1 to 64 bytes"},
		{"a key with an empty part", "hosts/", `{}`, "allowed: 1 to 64 bytes"},
		{"other settings", "config/other", `{}`, "config/default"},
		{"invalid JSON", "hosts/h", `{`, "hosts/h: line 1"},
		{"another id", "hosts/h", `{"id":"x"}`, `hosts/h: id "x": allowed: h`},
		{"an unknown setting", "config/default", `{"loglevel":"info"}`, `config/default: setting "loglevel"`},
		{"a secret", "configurations/k", `{"psk":"hunter2"`, "configurations/k: line 1"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := ParseObjects([]spec.Object{{Key: row.key, Value: json.RawMessage(row.value)}})
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
	host := spec.Object{Key: "hosts/h", Value: json.RawMessage(`{"id":"h"}`)}
	twice := []spec.Object{host, host}
	if _, err := ParseObjects(twice); err == nil || err.Error() != "hosts/h: duplicate object" {
		t.Error(err)
	}
}
