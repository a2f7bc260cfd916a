package oneline

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEachUnprintableCharacterIsReplaced(t *testing.T) {
	for given, want := range map[string]string{
		"":                "",
		" a  b ":          " a  b ",
		"a\nb\tc":         "a?b?c",
		"a\x00b\x1b[31m":  "a?b?[31m",
		"ä €":             "ä €",
		"a\u202eb\u2028c": "a?b?c",
		"a\u00a0b":        "a?b",
	} {
		if got := Replace(given, '?'); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

func TestWhiteSpaceBecomesOneSpace(t *testing.T) {
	for given, want := range map[string]string{
		" two\n\tlines ":        "two lines",
		"\n\n":                  "",
		"no-break\u00a0space":   "no-break space",
		"a\x1b]0;title\x07 \nb": "a?]0;title? b",
	} {
		if got := Of(given, 300); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

func TestLongLineIsCutBetweenCharacters(t *testing.T) {
	for given, want := range map[string]string{
		strings.Repeat("a", 300):                strings.Repeat("a", 300),
		strings.Repeat("a", 301):                strings.Repeat("a", 300) + "…",
		"a" + strings.Repeat("é", 150):          "a" + strings.Repeat("é", 149) + "…",
		"aa" + strings.Repeat("鍵", 100):         "aa" + strings.Repeat("鍵", 99) + "…",
		strings.Repeat("a", 298) + "\U0001f511": strings.Repeat("a", 298) + "…",
	} {
		if got := Of(given, 300); got != want || !utf8.ValidString(got) {
			t.Errorf("%q is %q", given, got)
		}
	}
}
