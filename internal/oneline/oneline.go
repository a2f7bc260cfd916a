// Package oneline makes one printable line of a text that this program did not write. Such a text could otherwise break
// a table or a log, or send control sequences to a terminal.
package oneline

import (
	"strings"
	"unicode"
)

// Replace replaces every character that is not printable. The only white space that is printable is the space.
func Replace(s string, by rune) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return by
		}
		return r
	}, s)
}

// Of returns a text as one line of at most limit bytes: a sequence of white space becomes one space, and any other
// character that is not printable becomes "?". A longer text is cut between two characters, and "…" is appended.
func Of(s string, limit int) string {
	s = Replace(strings.Join(strings.Fields(s), " "), '?')
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…" // without an incomplete UTF-8 sequence
	}
	return s
}
