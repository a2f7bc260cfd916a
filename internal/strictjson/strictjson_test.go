package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

type inner struct {
	B int `json:"b"`
}

type outer struct {
	A     string `json:"a"`
	Inner inner  `json:"inner"`
}

func TestUnknownKeyIsNamed(t *testing.T) {
	for text, key := range map[string]string{
		`{"a": "x", "c": 1}`:         "c",
		`{"inner": {"b": 1, "": 2}}`: "",
		`{"q\"\n": 1}`:               "q\"\n",
	} {
		err := Unmarshal([]byte(text), new(outer))
		unknown, ok := errors.AsType[*UnknownKeyError](err)
		if !ok || unknown.Key != key {
			t.Errorf("%s: %v", text, err)
			continue
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if want := decoder.Decode(new(outer)); want == nil || err.Error() != want.Error() {
			t.Errorf("%s: %q, encoding/json has %q", text, err, want)
		}
	}
}

func TestOtherErrorsAreThoseOfEncodingJSON(t *testing.T) {
	if _, ok := errors.AsType[*json.UnmarshalTypeError](Unmarshal([]byte(`{"a": 1}`), new(outer))); !ok {
		t.Error("a value of another type has another error")
	}
	for _, text := range []string{"", "{", `{"a": "x"} {}`, `{"a": "x"} y`, "[]"} {
		if err := Unmarshal([]byte(text), new(outer)); err == nil {
			t.Errorf("%q was decoded", text)
		}
	}
}

func TestValidTextIsDecoded(t *testing.T) {
	got := new(outer)
	err := Unmarshal([]byte(" {\"a\": \"x\", \"inner\": {\"b\": 2}}\n"), got)
	if err != nil || *got != (outer{"x", inner{2}}) {
		t.Errorf("%+v, %v", got, err)
	}
}
