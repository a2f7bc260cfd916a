package native

import (
	"fmt"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// malformed has a document for each kind of error that a parser or a check reports. Each has a secret in or near the
// place of the error. S is replaced by the secret.
var malformed = []struct {
	name   string
	format Format
	value  string
}{
	{"lines like those of /etc/passwd", YAML, "root:S:0:0:root:/root:/bin/bash\n"},
	{
		"a duplicate line that is a key, like those of /etc/shadow", YAML,
		"root:S:19000:0:99999:7:::\nroot:S:19000:0:99999:7:::\n",
	},
	{"text", YAML, "S\n"},
	{"text after a mapping", YAML, "psk: x\nS\n"},
	{"a mapping in a value", YAML, "psk: S: x\n"},
	{"a value that continues in a line with less indentation", YAML, "a:\n  psk: S\n S: y\n"},
	{"a list in a value", YAML, "psk: - S\n"},
	{"a list that is not closed", YAML, "psk: [S"},
	{"a mapping that is not closed", YAML, "psk: {S"},
	{"a list with a colon", YAML, "psk: [S: : x]"},
	{"a string that is not closed", YAML, "psk: \"S\n"},
	{"a string in apostrophes that is not closed", YAML, "psk: 'S\n"},
	{"an unknown escape", YAML, "psk: \"S\\S\"\n"},
	{"a truncated escape", YAML, "psk: \"\\u00S\"\n"},
	{"half of a surrogate pair", YAML, "psk: \"\\ud83dS\"\n"},
	{"a character that begins no value", YAML, "psk: @S\n"},
	{"a backquote", YAML, "psk: `S`\n"},
	{"a percent sign", YAML, "psk: %S\n"},
	{"a directive", YAML, "%S x\n---\na: b\n"},
	{"a version of YAML", YAML, "%YAML S\n---\na: b\n"},
	{"a directive for tags", YAML, "%TAG !S! tag:S,2000:\n%TAG !S! tag:S,2000:\n---\na: b\n"},
	{"a tag without its directive", YAML, "psk: !S!x y\n"},
	{"a local tag", YAML, "psk: !S x\n"},
	{"a tag that does not match the value", YAML, "psk: !!int S\n"},
	{"a tag for bytes", YAML, "psk: !!binary S\n"},
	{"a tag that is not closed", YAML, "psk: !<S x\n"},
	{"an alias without its anchor", YAML, "psk: *S\n"},
	{"an alias inside its anchor", YAML, "a: &S [*S]\n"},
	{"an anchor without a name", YAML, "psk: &!S x\n"},
	{"a block with a wrong indicator", YAML, "psk: |S\n  x\n"},
	{"a block with an indentation of 0", YAML, "psk: |0\n S\n"},
	{"a tab for indentation", YAML, "a:\n\tpsk: S\n"},
	{"a control character", YAML, "psk: S\x01\n"},
	{"a second document", YAML, "psk: S\n---\npsk: S\n"},
	{"an end of the document within a string", YAML, "psk: \"S\n---\n\"\n"},
	{"a key that is not a string", YAML, "? [S]\n: x\n"},
	{"a merge key", YAML, "psk: {<<: {S: x}}\n"},
	{"a boolean of YAML 1.1", YAML, "yes: S\npsk: yes\n"},
	{"a number in octal", YAML, "psk: S\na: 0o7\n"},
	{"bytes that are no UTF-8", YAML, "psk: S\xff\n"},
	{"deep nesting", YAML, "psk: " + strings.Repeat("[", 20_000) + "S"},
	{"a duplicate key", YAML, "psk: S\npsk: S\n"},
	{"too large", YAML, "psk: S" + strings.Repeat("x", MaxSize)},
	{"text", JSON, `S`},
	{"a string alone", JSON, `"S"`},
	{"a list", JSON, `["S"]`},
	{"a missing comma", JSON, `{"psk": "S" "a": 1}`},
	{"a missing colon", JSON, `{"psk" "S"}`},
	{"a missing quote", JSON, `{"psk": S"}`},
	{"a string that is not closed", JSON, `{"psk": "S`},
	{"an unknown escape", JSON, `{"psk": "\S"}`},
	{"a control character in a string", JSON, "{\"psk\": \"S\n\"}"},
	{"an unknown literal", JSON, `{"psk": nullS}`},
	{"an invalid number", JSON, `{"psk": 1S}`},
	{"text after the object", JSON, `{} "S"`},
	{"a duplicate key", JSON, `{"psk": "S", "psk": "S"}`},
	{"deep nesting", JSON, `{"psk": ` + strings.Repeat("[", 100) + `"S"` + strings.Repeat("]", 100) + `}`},
	{"YAML", JSON, "psk: S\n"},
}

func TestParseErrorContainsNoSecret(t *testing.T) {
	const secret = "hunter2correcthorse"
	for _, row := range malformed {
		t.Run(fmt.Sprintf("format %d, %s", row.format, row.name), func(t *testing.T) {
			_, err := Parse([]byte(strings.ReplaceAll(row.value, "S", secret)), row.format)
			if err == nil {
				t.Fatal("the document was accepted")
			}
			if strings.Contains(err.Error(), "hunter") || strings.ContainsAny(err.Error(), "\n\x01") {
				t.Errorf("got %q", err)
			}
		})
	}
}

// A value in the wrong place may be a secret, too.
func TestFaultContainsNoValueOfWrongType(t *testing.T) {
	for _, value := range []string{`{"psk": "hunter2"}`, `["hunter2"]`, `[["hunter2"]]`, `{"hunter2": 1}`} {
		for _, key := range []string{
			"id", "name", "containerWeight", "interfaceName", "addresses", "serviceType", "hostIds", "log-level",
		} {
			document, err := Parse([]byte(`{"`+key+`": `+value+`}`), JSON)
			if err != nil {
				t.Fatal(err)
			}
			for kind, faults := range checks(document) {
				for _, fault := range faults.All() {
					// A list of strings is the right type for these two. Its elements are refused as addresses or ids.
					if key == "addresses" || key == "hostIds" {
						continue
					}
					if strings.Contains(fault.Error(), "hunter2") {
						t.Errorf("%s with %s %s: %v", kind, key, value, fault)
					}
				}
			}
		}
	}
	for name, value := range map[string]string{
		"a string for a number":         `containerWeight: "hunter2"`,
		"keys like the lines of a file": "root:$6$hunter2:19000:0:99999:7:::\n",
		"a key with a blank":            `"hunter2 hunter2": x`,
		"a key with another character":  `{"$hunter2": [x]}`,
	} {
		document, err := Parse([]byte(value), YAML)
		if err != nil {
			t.Fatal(err)
		}
		for kind, faults := range checks(document) {
			for _, fault := range faults.All() {
				if strings.Contains(fault.Error(), "hunter2") {
					t.Errorf("%s: %s: %v", name, kind, fault)
				}
			}
		}
	}
}

func checks(d *Document) map[string]Faults {
	_, host := d.Host(spec.HostID("h"))
	_, binding := d.Binding("h", "p")
	_, container := d.Container("c")
	_, group := d.Group("g")
	_, configuration := d.Configuration("k")
	_, settings := d.Settings()
	return map[string]Faults{
		"host": host, "binding": binding, "container": container,
		"group": group, "configuration": configuration, "settings": settings,
	}
}

func TestHoldsKeysDependsOnMemberName(t *testing.T) {
	rows := []struct {
		name  string
		value string
		want  bool
	}{
		{"a pre-shared key", `{"connections": [{"psk": "x"}]}`, true},
		{"one in base64", `{"connections": [{"pskBase64": "eA=="}]}`, true},
		{"a password", `{"a": {"b": {"adminPassword": "x"}}}`, true},
		{"a private key", `{"privateKey": "x"}`, true},
		{"a list of tokens", `{"tokens": ["x"]}`, true},
		{
			"the path of a file with a key",
			`{"connections": [{"pskFile": "/etc/keys/x", "certificate": {"privateKeyFile": "/x"}}]}`, false,
		},
		{"the number of a key", `{"keyId": "x", "keyLifetime": 5}`, false},
		{"a key that is empty", `{"psk": "", "secret": null}`, false},
		{"a configuration without keys", `{"id": "k", "text": "hello", "connections": [{"mtu": 1400}]}`, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			document, err := Parse([]byte(row.value), JSON)
			if err != nil {
				t.Fatal(err)
			}
			if got := document.HoldsKeys(); got != row.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
