package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const wholeAnswer = `{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"],"serviceType":"IPSEC","serviceVersion":"1.4.0",
"contractVersion":1,"reconfigure":true,"checkOn":["xfrm"]}`

func TestAnAnswerToVersionIsReadWhole(t *testing.T) {
	answer, version, err := ParseVersionAnswer([]byte(wholeAnswer))
	if err != nil {
		t.Fatal(err)
	}
	if answer.ServiceType != "IPSEC" || version.String() != "1.4.0" || !answer.Reconfigure || !slices.Equal(answer.CheckOn, []string{CheckOnXFRM}) {
		t.Errorf("%+v, %v", answer, version)
	}
}

func TestAnAnswerToVersionIsChecked(t *testing.T) {
	replace := func(old, by string) string {
		if !strings.Contains(wholeAnswer, old) {
			t.Fatalf("%s is not in the answer", old)
		}
		return strings.Replace(wholeAnswer, old, by, 1)
	}
	for _, r := range []struct {
		name   string
		stdout string
		fault  string
	}{
		{"an ordinary CNI plugin is refused", `{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}`, "serviceType"},
		{"nothing is refused", ``, "answer to VERSION"},
		{"garbage is refused", `svc-ipsec 1.4.0`, "answer to VERSION"},
		{"null is refused", `null`, "serviceType"},
		{"half an answer is refused", wholeAnswer[:len(wholeAnswer)/2], "answer to VERSION"},
		{"two answers are refused", wholeAnswer + wholeAnswer, "answer to VERSION"},
		{"a hostile type is refused", replace(`"IPSEC"`, `"../X"`), "serviceType"},
		{"a version of two numbers is refused", replace(`"1.4.0"`, `"1.4"`), "serviceVersion"},
		{"a version with a v is refused", replace(`"1.4.0"`, `"v1.4.0"`), "serviceVersion"},
		{"a version with a newline is refused", replace(`"1.4.0"`, `"1.4.0\n"`), "serviceVersion"},
		{"no version is refused", replace(`"1.4.0"`, `""`), "serviceVersion"},
		{"a release candidate passes", replace(`"1.4.0"`, `"1.4.0-rc1+build.2"`), ""},
		{"another contract is refused", replace(`"contractVersion":1`, `"contractVersion":2`), "contractVersion"},
		{"no contract is refused", replace(`"contractVersion":1,`, ``), "contractVersion"},
		{"one without CNI 1.1.0 is refused", replace(`"1.0.0","1.1.0"`, `"1.0.0"`), "supportedVersions"},
		{"events of a later contract pass", replace(`["xfrm"]`, `["route","xfrm"]`), ""},
		{"no events pass", replace(`,"checkOn":["xfrm"]`, ``), ""},
		{"events that are no list are refused", replace(`["xfrm"]`, `"xfrm"`), "checkOn"},
		{"keys of a later contract pass", replace(`"reconfigure":true`, `"somethingNew":[]`), ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			_, _, err := ParseVersionAnswer([]byte(r.stdout))
			switch {
			case r.fault == "" && err != nil:
				t.Error(err)
			case r.fault != "" && (err == nil || !strings.Contains(err.Error(), r.fault)):
				t.Errorf("want a fault of %s, got %v", r.fault, err)
			}
		})
	}
}

func FuzzParseVersionAnswer(f *testing.F) {
	f.Add([]byte(wholeAnswer))
	f.Add([]byte(`{"serviceType":"A","serviceVersion":"1.0.0-0.0.0+0","contractVersion":1,"supportedVersions":["1.1.0"]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, stdout []byte) {
		answer, version, err := ParseVersionAnswer(stdout)
		if err != nil {
			return
		}
		if _, err := ParseServiceType("serviceType", string(answer.ServiceType)); err != nil {
			t.Error(err)
		}
		if version.String() != answer.ServiceVersion {
			t.Errorf("%q is not %q", version, answer.ServiceVersion)
		}
	})
}

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
