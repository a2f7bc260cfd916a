package plugin

import (
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const wholeAnswer = `{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"],"serviceType":"IPSEC","serviceVersion":"1.4.0",
"contractVersion":1,"reconfigure":true,"checkOn":["xfrm"]}`

func TestAnAnswerToVersionIsReadWhole(t *testing.T) {
	answer, version, err := parseVersionAnswer([]byte(wholeAnswer))
	if err != nil {
		t.Fatal(err)
	}
	if answer.ServiceType != "IPSEC" || version.String() != "1.4.0" || !answer.Reconfigure || !slices.Equal(answer.CheckOn, []string{spec.CheckOnXFRM}) {
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
			_, _, err := parseVersionAnswer([]byte(r.stdout))
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
		answer, version, err := parseVersionAnswer(stdout)
		if err != nil {
			return
		}
		if _, err := spec.ParseServiceType("serviceType", string(answer.ServiceType)); err != nil {
			t.Error(err)
		}
		if version.String() != answer.ServiceVersion {
			t.Errorf("%q is not %q", version, answer.ServiceVersion)
		}
	})
}
