package spec

import (
	"strings"
	"testing"
)

func TestErrorIn(t *testing.T) {
	for _, r := range []struct {
		name   string
		verb   Verb
		output string
		code   Code
		fault  string
	}{
		{"no output", Del, ``, 0, ""},
		{"text without a brace", Del, `done`, 0, ""},
		{"text with a brace", Del, `done {`, 0, ""},
		{"a result", Add, `{"cniVersion":"1.1.0","units":[]}`, 0, ""},
		{"a result that holds a code deeper down", Add, `{"cniVersion":"1.1.0","x":{"code":7}}`, 0, ""},
		{"health", Check, `{"code":"RUNNING"}`, 0, ""},
		{"health with an unknown code, which the caller refuses", Check, `{"code":"FINE"}`, 0, ""},
		{"code null", Add, `{"cniVersion":"1.1.0","code":null}`, 0, ""},
		{"code 0", Add, `{"cniVersion":"1.1.0","code":0}`, 0, ""},
		{"an error object", Del, `{"code":101,"msg":"no"}`, 101, ""},
		{"an error object of CHECK", Check, `{"code":101,"msg":"no"}`, 101, ""},
		{"an error object with white space around it", Del, " \n{\"code\":101}\n\n", 101, ""},
		{"a number as a string", Check, `{"code":"101"}`, 0, "key code"},
		{"a name as the code of a result", Add, `{"cniVersion":"1.1.0","code":"EIO"}`, 0, "key code"},
		{"a name as the code of an error object of CHECK", Check, `{"code":"EIO","msg":"no"}`, 0, "key code"},
		{"a list as code", Check, `{"code":[1]}`, 0, "key code"},
		{"a fraction as code", Del, `{"code":7.5}`, 0, "key code"},
		{"text in front", Del, `x {"code":101}`, 0, "a JSON object and nothing else"},
		{"two objects", Del, `{"code":101}{"code":102}`, 0, "a JSON object and nothing else"},
		{"a mebibyte of braces", Del, strings.Repeat("{", 1<<20), 0, ""},
		{"a mebibyte of nested objects", Del, strings.Repeat(`{"a":`, 200000), 0, ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			object, err := ErrorIn(r.verb, []byte(r.output))
			switch {
			case r.fault != "":
				if object != nil || err == nil || !strings.Contains(err.Error(), r.fault) ||
					strings.Contains(err.Error(), "\n") {
					t.Errorf("%v, %v", object, err)
				}
			case err != nil || (object != nil) != (r.code != 0) || object != nil && object.Code != r.code:
				t.Errorf("%v, %v", object, err)
			}
		})
	}
}

func TestOutputErrorQuotesTheOutputInOneLine(t *testing.T) {
	for _, r := range []struct{ name, output, want string }{
		{"no output", " \n", `x: nothing was printed: allowed: a JSON object`},
		{"text before the object", "debug: a\nb {}", `x "debug: a\nb {}": allowed: a JSON object and nothing else`},
		{"a value of the wrong type", `{"connections":"none"}`,
			`x: key connections: a JSON string does not fit: printed "{\"connections\":\"none\"}"`},
		{"a list", `[]`, `x "[]": allowed: a JSON object`},
		{"half an object", `{"code":`, `x "{\"code\":": allowed: a JSON object and nothing else`},
		{"long output", `{"code":7` + strings.Repeat(" ", 1000) + `}`,
			`x: key code: a JSON number does not fit: printed "{\"code\":7` + strings.Repeat(" ", 55) +
				`" (the first 64 of 1010 bytes)`},
	} {
		t.Run(r.name, func(t *testing.T) {
			if err := DecodeOutput("x", []byte(r.output), new(Health)); err == nil || err.Error() != r.want {
				t.Errorf("got  %v\nwant %s", err, r.want)
			}
		})
	}
}
