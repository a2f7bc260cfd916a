package spec

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestFaultNamesKeyValueAndAllowedValues(t *testing.T) {
	err := &Fault{"mac", "x\ny", macAllowed}
	if got, want := err.Error(), `mac "x\ny": allowed: `+macAllowed; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFaultIsOneLineForEveryKeyAndValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fault := &Fault{
			Key: rapid.String().Draw(t, "key"), Value: string(rapid.SliceOf(rapid.Byte()).Draw(t, "value")),
			Allowed: rapid.String().Draw(t, "allowed"),
		}
		text := fault.Error()
		if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("%q is not one printable line", text)
		}
	})
}

func TestQuoteCutsLongValues(t *testing.T) {
	for _, r := range []struct{ name, value, want string }{
		{"64 bytes are not cut", strings.Repeat("a", 64), `"` + strings.Repeat("a", 64) + `"`},
		{"65 bytes are cut", strings.Repeat("a", 65), `"` + strings.Repeat("a", 64) + `" (the first 64 of 65 bytes)`},
		{"a character that is cut in two is escaped", strings.Repeat("a", 63) + "ä",
			`"` + strings.Repeat("a", 63) + `\xc3" (the first 64 of 65 bytes)`},
		{"a mebibyte is cut", strings.Repeat("\n", 1<<20),
			`"` + strings.Repeat(`\n`, 64) + `" (the first 64 of 1048576 bytes)`},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got := Quote(r.value); got != r.want {
				t.Errorf("got  %s\nwant %s", got, r.want)
			}
		})
	}
}

func TestFaultInAnObjectNamesTheFullKey(t *testing.T) {
	var fault *Fault
	if err := in("health", &Fault{"code", "x", "y"}); !errors.As(err, &fault) || fault.Key != "health.code" {
		t.Error(err)
	}
	other := errors.New("other")
	if err := in("health", other); err != other { //nolint:errorlint // the same error, not one that wraps it
		t.Error(err)
	}
}
