package spec

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestAnErrorIsMessageDetailsAndCode(t *testing.T) {
	for want, e := range map[string]*Error{
		"no such key (code 7)":              {Code: CodeConfiguration, Msg: "no such key"},
		"no such key: externalIp (code 7)":  {Code: CodeConfiguration, Msg: "no such key", Details: "externalIp"},
		"busy: an update runs (code 11)":    {CNIVersion: CNIVersion, Code: CodeAgain, Msg: "busy", Details: "an update runs"},
		"not in place: the MAC (code 100)":  {Code: CodeNotInPlace, Msg: "not in place", Details: "the MAC"},
		"its own trouble (code 4294967295)": {Code: 4294967295, Msg: "its own trouble"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	said := new(Error)
	if err := json.Unmarshal([]byte(`{"code":-1,"msg":"x"}`), said); err == nil {
		t.Error("a negative code was read")
	}
}

func TestOnlyABadConfigurationAndAnExecutablesOwnWordAreVerdicts(t *testing.T) {
	verdicts := map[Code]bool{CodeConfiguration: true, CodeNotInPlace: true, CodeOwn: true, 199: true}
	for code := Code(0); code < 1000; code++ {
		if code.Verdict() != verdicts[code] && !(code > CodeOwn && code < 199) {
			t.Error(fmt.Sprint("code ", code, ": ", code.Verdict()))
		}
		if code > CodeOwn && code < 199 && !code.Verdict() {
			t.Error(fmt.Sprint("code ", code, " is the executable's own and no verdict"))
		}
	}
}
