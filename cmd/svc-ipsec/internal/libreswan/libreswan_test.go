package libreswan

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLongLineIsCutBetweenRunes(t *testing.T) {
	for given, want := range map[string]string{
		" two\n\tlines ":                        "two lines",
		strings.Repeat("a", 300):                strings.Repeat("a", 300),
		strings.Repeat("a", 301):                strings.Repeat("a", 300) + "…",
		"a" + strings.Repeat("é", 150):          "a" + strings.Repeat("é", 149) + "…",
		"aa" + strings.Repeat("鍵", 100):         "aa" + strings.Repeat("鍵", 99) + "…",
		strings.Repeat("a", 298) + "\U0001f511": strings.Repeat("a", 298) + "…",
	} {
		if got := oneLine(given); got != want || !utf8.ValidString(got) {
			t.Errorf("%q is %q", given, got)
		}
	}
}
