package spec

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestErrorTextIsMessageDetailsAndCode(t *testing.T) {
	for want, e := range map[string]*Error{
		"no such key (code 7)":             {Code: CodeConfiguration, Msg: "no such key"},
		"no such key: externalIp (code 7)": {Code: CodeConfiguration, Msg: "no such key", Details: "externalIp"},
		"busy: updating (code 11)": {
			CNIVersion: CNIVersion, Code: CodeAgain, Msg: "busy", Details: "updating",
		},
		"not in place: the MAC (code 100)":  {Code: CodeNotInPlace, Msg: "not in place", Details: "the MAC"},
		"unknown failure (code 4294967295)": {Code: 4294967295, Msg: "unknown failure"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	decoded := new(Error)
	if err := json.Unmarshal([]byte(`{"code":-1,"msg":"x"}`), decoded); err == nil {
		t.Error("a negative code was decoded")
	}
}

func TestFinalCodes(t *testing.T) {
	final := map[Code]bool{CodeConfiguration: true, CodeNotInPlace: true, CodeOwn: true, 199: true}
	for code := Code(0); code < 1000; code++ {
		if code.IsFinal() != final[code] && !(code > CodeOwn && code < 199) {
			t.Error(fmt.Sprint("code ", code, ": ", code.IsFinal()))
		}
		if code > CodeOwn && code < 199 && !code.IsFinal() {
			t.Error(fmt.Sprint("code ", code, " is one of the executable's own codes, but not final"))
		}
	}
}
