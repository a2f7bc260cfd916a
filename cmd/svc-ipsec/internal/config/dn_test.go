package config

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDistinguishedNameForms(t *testing.T) {
	for _, test := range []struct{ given, text string }{
		{"C = FR, O = Example, CN = paris", "C=FR, O=Example, CN=paris"},
		{"C=FR,O=Example Corp. ,CN=paris", "C=FR, O=Example Corp., CN=paris"},
		{`C = FR, O = "Example, Inc.", CN = paris`, "C=FR, O=#0c0d4578616d706c652c20496e632e, CN=paris"},
		{`C=FR, O=Example\, Inc., CN=paris`, "C=FR, O=#0c0d4578616d706c652c20496e632e, CN=paris"},
		{`C=FR, O=Example\2C Inc., CN=paris`, "C=FR, O=#0c0d4578616d706c652c20496e632e, CN=paris"},
		{"C=FR, O=Société", "C=FR, O=#0c09536f6369c3a974c3a9"},
		{`C = FR, O = Soci\C3\A9t\C3\A9`, "C=FR, O=#0c09536f6369c3a974c3a9"},
		{`O="a \" b"`, "O=#0c0561202220" + "62"},
		{"O=A/B", "O=#0c03412f42"},
		{`O=\ a`, "O=#0c022061"},
		{"CN=" + strings.Repeat("é", 64), "CN=#0c8180" + strings.Repeat("c3a9", 64)},
		{"serialNumber=1, UN=x", "serialNumber=1, UN=x"},
	} {
		raw, _ := json.Marshal(test.given)
		id, err := identity("peerId", raw)
		if err != nil || id.Kind() != kindDN || id.String() != `"`+test.text+`"` {
			t.Errorf("%s: %s %s %v, want %s", test.given, id.Kind(), id, err, test.text)
		}
	}
	for given, want := range map[string]string{
		"C=FR, X=1":              `peerId "X": allowed: an attribute of C, ST, L, `,
		"C=FR, Example":          `peerId "Example": allowed: attribute=value; a comma inside a value is written \,`,
		"C=FR, O=":               `peerId "O=": allowed: a value that is not empty`,
		"O=A + CN=b":             `peerId "O=A + CN=b": allowed: \+ in the place of +`,
		`O="a`:                   `allowed: a closing "`,
		`O="a,b" c`:              `allowed: a comma after the closing "`,
		`O="ab"`:                 `quotes only around`,
		`O=a\x`:                  `peerId "O=\\x": allowed: after \: two hexadecimal digits`,
		`O=a\`:                   `after \: `,
		`O=\FF`:                  "printable text in UTF-8",
		`O=\0Ax`:                 "printable text in UTF-8",
		"O=*":                    "matches any",
		"O=#0c0161":              `\# at the begin`,
		"/C=FR/O=Example":        "separated by commas",
		"C=FR/O=Example":         "separated by commas",
		"C=FR\nleftupdown=/bin/": "printable text",
	} {
		raw, _ := json.Marshal(given)
		if id, err := identity("peerId", raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s %v, want %s", given, id, err, want)
		}
	}
	a, _ := identity("", json.RawMessage(`"O=\"Example, Inc.\", emailAddress=a@b, serialNumber=7"`))
	b, _ := identity("", json.RawMessage(`"O=Example\\, Inc., E=a@b, SN=7"`))
	if !a.Same(b) {
		t.Errorf("%s and %s are equal in Libreswan", a, b)
	}
}
