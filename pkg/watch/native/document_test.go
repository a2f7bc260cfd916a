package native

import (
	"fmt"
	"strings"
	"testing"
)

func TestDocumentIsConvertedToJSON(t *testing.T) {
	rows := []struct {
		name   string
		format Format
		value  string
		want   string
	}{
		{
			"JSON loses only its white space", JSON, "{ \"b\" : [1, 2.50, -0, 1E3],\n\"a\":null }",
			`{"b":[1,2.50,-0,1E3],"a":null}`,
		},
		{"a number beyond 64 bits stays as written", YAML, "n: 18446744073709551616", `{"n":18446744073709551616}`},
		{"a number beyond 53 bits stays as written", YAML, "n: 9007199254740993", `{"n":9007199254740993}`},
		{"a fraction keeps its zeros", YAML, "n: 1.10", `{"n":1.10}`},
		{
			"a large JSON number stays as written", JSON, `{"n":123456789012345678901234567890.10}`,
			`{"n":123456789012345678901234567890.10}`,
		},
		{"a number in quotes is a string", YAML, "n: '010'", `{"n":"010"}`},
		{"a yes in quotes is a string", YAML, `n: "yes"`, `{"n":"yes"}`},
		{"a MAC address is a string", YAML, "mac: 10:11:22:33:44:55", `{"mac":"10:11:22:33:44:55"}`},
		{"a date is a string", YAML, "d: 2026-01-02", `{"d":"2026-01-02"}`},
		{"an address is a string", YAML, "a: 10.0.0.1", `{"a":"10.0.0.1"}`},
		{"True is true", YAML, "a: True\nb: false", `{"a":true,"b":false}`},
		{"nothing, a tilde and null are null", YAML, "a:\nb: ~\nc: null", `{"a":null,"b":null,"c":null}`},
		{"an explicit string tag makes a string", YAML, "a: !!str 12", `{"a":"12"}`},
		{"an alias is replaced by its anchor", YAML, "a: &p {x: [1]}\nb: *p", `{"a":{"x":[1]},"b":{"x":[1]}}`},
		{"a block scalar keeps its lines", YAML, "a: |\n  x\n  y\n", `{"a":"x\ny\n"}`},
		{"HTML characters are not escaped", YAML, "a: <b> & c", `{"a":"<b> & c"}`},
		{"a byte order mark is ignored", YAML, "\xef\xbb\xbfa: b", `{"a":"b"}`},
		{"a byte order mark is ignored in JSON", JSON, "\xef\xbb\xbf{}", `{}`},
		{"document markers are accepted", YAML, "---\na: b\n...\n", `{"a":"b"}`},
		{"JSON is YAML", YAML, `{"a": "b"}`, `{"a":"b"}`},
		{"keys stay in their order", YAML, "z: 1\na: 2", `{"z":1,"a":2}`},
		{"an empty mapping is a mapping", YAML, "{}", `{}`},
		{
			"64 levels are read", JSON, strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64),
			strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64),
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			document, err := Parse([]byte(row.value), row.format)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(document.JSON); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// billionLaughs returns the document of a billion laughs attack: each level is nine times as large as the one before.
func billionLaughs(levels int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 [ha]\n")
	for i := 1; i < levels; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9))
	}
	return b.String()
}

func TestParseErrorIsOneLine(t *testing.T) {
	rows := []struct {
		name   string
		format Format
		value  string
		want   string
	}{
		{"an empty file", YAML, "", "is empty"},
		{"only blanks", JSON, " \n", "is empty"},
		{"only a comment", YAML, "# later\n", "is empty"},
		{"a list", YAML, "- a", "is not a mapping"},
		{"a string", JSON, `"a"`, "is not a mapping"},
		{"null", YAML, "---\n", "is not a mapping"},
		{"a duplicate key in YAML", YAML, "a: {b: 1, b: 2}", "a.b: duplicate key"},
		{"a duplicate key in YAML, written differently", YAML, "a: 1\n\"\\x61\": 2", "a: duplicate key"},
		{"a duplicate key in JSON", JSON, `{"a":[{"b":1},{"b":1,"b":2}]}`, "a[1].b: duplicate key"},
		{"two documents", YAML, "a: 1\n---\nb: 2", "a second document"},
		{"two JSON values", JSON, "{}\n{}", "line 2, column 1"},
		{"JSON with a comma too many", JSON, "{\"a\": 1,\n}", "line 2, column 1: is not JSON from here on"},
		{"JSON that ends too early", JSON, `{"a": [1`, "is not JSON from here on"},
		{"YAML that ends too early", YAML, "a: [1, 2", "is not YAML"},
		{"YAML with a tab for indentation", YAML, "a:\n\tb: 1", "is not YAML"},
		{"a number in octal", YAML, "a: 010", "line 1: a: a number that is not written as in JSON"},
		{"a number in hexadecimal", YAML, "a: [0x10]", "line 1: a[0]: a number that is not written as in JSON"},
		{"a number with grouping", YAML, "a: 1_000", "not written as in JSON"},
		{"a number with a plus sign", YAML, "a: +1", "not written as in JSON"},
		{"infinity", YAML, "a: .inf", "not written as in JSON"},
		{"a yes without quotes", YAML, "a: yes", "yes, no, on or off without quotes"},
		{"an Off without quotes", YAML, "a: Off", "yes, no, on or off without quotes"},
		{"a merge key", YAML, "a: &a {b: 1}\nc: {<<: *a}", "a key that is not a string"},
		{"a key that is a number", YAML, "1: a", "a key that is not a string"},
		{"a key that is a list", YAML, "? [a]\n: b", "a key that is not a string"},
		{"a foreign tag", YAML, "a: !php/object x", "a tag or a merge key"},
		{"a binary tag", YAML, "a: !!binary aGE=", "a tag or a merge key"},
		{"an unknown alias, whose name is not repeated", YAML, "psk: *hunter2", "an alias without its anchor"},
		{"an alias within itself", YAML, "a: &a [*a]", "deeper than 64 levels"},
		{"a billion laughs", YAML, billionLaughs(12), "larger than 1 MiB with its aliases expanded"},
		{
			"deep nesting in JSON", JSON, strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
			"deeper than 64 levels",
		},
		{"very deep nesting in JSON", JSON, strings.Repeat("[", 500_000), "is not JSON"},
		{"very deep nesting in YAML", YAML, strings.Repeat("[", 500_000), "is not YAML"},
		{"very deep nesting in YAML by blocks", YAML, strings.Repeat("- ", 500_000), "is not YAML"},
		{"more than 1 MiB", JSON, `{"a":"` + strings.Repeat("x", MaxSize) + `"}`, "is larger than 1 MiB"},
		{"Latin 1", YAML, "a: caf\xe9", "is not UTF-8"},
		{"UTF-16", YAML, "\xff\xfea\x00:\x00", "is not UTF-8"},
		{"a NUL", YAML, "a: b\x00c", "is not YAML"},
		{"a hostile key", JSON, "{\"a\\n../b\":{\"c\":1,\"c\":1}}", `(a key that is not shown).c: duplicate key`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := Parse([]byte(row.value), row.format)
			if err == nil {
				t.Fatal("the document was accepted")
			}
			if !strings.Contains(err.Error(), row.want) || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("got  %q\nwant %q in one line", err, row.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error contains a value: %q", err)
			}
		})
	}
}

// The worst known file of 1 MiB takes the YAML parser 0.4 s and 300 MB of allocations.
func TestManySmallNodesAreRefused(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("- #\n", MaxSize/4),
		"[" + strings.Repeat("a,", MaxSize/2-1) + "]",
	} {
		if _, err := Parse([]byte(text), YAML); err == nil {
			t.Error("the document was accepted")
		}
	}
}
