package plugin

import (
	"slices"
	"strings"
	"testing"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const completeAnswer = `{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"],"serviceType":"IPSEC",
"serviceVersion":"1.4.0","contractVersion":1,"reconfigure":true,"checkOn":["xfrm"]}`

func TestCompleteAnswerToVersionIsParsed(t *testing.T) {
	answer, version, err := parseVersionAnswer([]byte(completeAnswer))
	if err != nil {
		t.Fatal(err)
	}
	if answer.ServiceType != "IPSEC" || version.String() != "1.4.0" || !answer.Reconfigure ||
		!slices.Equal(answer.CheckOn, []string{spec.CheckOnXFRM}) {
		t.Errorf("%+v, %v", answer, version)
	}
}

func TestAnswerToVersionIsChecked(t *testing.T) {
	replace := func(old, by string) string {
		if !strings.Contains(completeAnswer, old) {
			t.Fatalf("%s is not in the answer", old)
		}
		return strings.Replace(completeAnswer, old, by, 1)
	}
	for _, r := range []struct {
		name   string
		stdout string
		fault  string
	}{
		{"an ordinary CNI plugin is refused", `{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}`, "serviceType"},
		{"an empty answer is refused", ``, "answer to VERSION"},
		{"other text is refused", `svc-ipsec 1.4.0`, "answer to VERSION"},
		{"null is refused", `null`, "serviceType"},
		{"a truncated answer is refused", completeAnswer[:len(completeAnswer)/2], "answer to VERSION"},
		{"two answers are refused", completeAnswer + completeAnswer, "answer to VERSION"},
		{"an invalid type is refused", replace(`"IPSEC"`, `"../X"`), "serviceType"},
		{"a version of two numbers is refused", replace(`"1.4.0"`, `"1.4"`), "serviceVersion"},
		{"a version with a v is refused", replace(`"1.4.0"`, `"v1.4.0"`), "serviceVersion"},
		{"a version with a newline is refused", replace(`"1.4.0"`, `"1.4.0\n"`), "serviceVersion"},
		{"an empty version is refused", replace(`"1.4.0"`, `""`), "serviceVersion"},
		{"a release candidate is accepted", replace(`"1.4.0"`, `"1.4.0-rc1+build.2"`), ""},
		{"another contract is refused", replace(`"contractVersion":1`, `"contractVersion":2`), "contractVersion"},
		{"a missing contract version is refused", replace(`"contractVersion":1,`, ``), "contractVersion"},
		{"a plugin without CNI 1.1.0 is refused", replace(`"1.0.0","1.1.0"`, `"1.0.0"`), "supportedVersions"},
		{"events of a later contract are accepted", replace(`["xfrm"]`, `["route","xfrm"]`), ""},
		{"a missing list of events is accepted", replace(`,"checkOn":["xfrm"]`, ``), ""},
		{"events that are not a list are refused", replace(`["xfrm"]`, `"xfrm"`), "checkOn"},
		{"keys of a later contract are accepted", replace(`"reconfigure":true`, `"somethingNew":[]`), ""},
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
	f.Add([]byte(completeAnswer))
	f.Add([]byte(
		`{"serviceType":"A","serviceVersion":"1.0.0-0.0.0+0","contractVersion":1,"supportedVersions":["1.1.0"]}`))
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
