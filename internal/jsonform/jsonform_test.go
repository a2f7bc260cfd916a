package jsonform

import (
	"encoding/json"
	"testing"
)

func TestTextInsideTheValueIsKept(t *testing.T) {
	value := map[string]any{"raw": json.RawMessage(`{"b":"<&>","a":1}`), "text": "<\n"}
	if got, err := Marshal(value); err != nil || string(got) != `{"raw":{"b":"<&>","a":1},"text":"<\n"}` {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := MarshalIndent([]int{1}); err != nil || string(got) != "[\n  1\n]" {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := Marshal(make(chan int)); err == nil {
		t.Errorf("%s", got)
	}
}

func TestCanonicalText(t *testing.T) {
	for given, want := range map[string]string{
		` { "b" : [1, 2.50, 1e3 ], "a" : "<" } `: `{"a":"\u003c","b":[1,2.50,1e3]}`,
		`18446744073709551617`:                   `18446744073709551617`,
		`null`:                                   `null`,
	} {
		if got, err := Canonical([]byte(given)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", given, got, err, want)
		}
	}
	for _, given := range []string{"", "{", "{} {}", "{} x"} {
		if got, err := Canonical([]byte(given)); err == nil {
			t.Errorf("%q: %s", given, got)
		}
	}
}

func TestTextsAreEqualIfTheirValuesAre(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":[2]}`, `{ "b": [2], "a": 1 }`, true},
		{`"<"`, `"\u003c"`, true},
		{`1.0`, `1`, false}, // numbers as written
		{`[1,2]`, `[2,1]`, false},
		{`{}`, `null`, false},
		{`{`, `{`, true},
		{`{`, `[`, false},
		{`{} x`, `{}`, false},
	} {
		if got := Equal([]byte(row.a), []byte(row.b)); got != row.want {
			t.Errorf("%s and %s: %t", row.a, row.b, got)
		}
	}
}

func TestMembersKeepOrderAndText(t *testing.T) {
	members, err := Members([]byte(` { "b" : { "x": 1.0 }, "<" : null, "b" : "<" } `))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(Object(members)), `{"b":{ "x": 1.0 },"<":null,"b":"<"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if members, err := Members([]byte("{}")); err != nil || string(Object(members)) != "{}" {
		t.Errorf("%v, %v", members, err)
	}
	for _, text := range []string{"", "null", "[]", `"a"`, "{", `{"a"}`, `{"a":1} {}`, `{"a":1}x`} {
		if members, err := Members([]byte(text)); err == nil {
			t.Errorf("%q has the members %v", text, members)
		}
	}
}
