package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// quoteLimit is the number of bytes of a refused value that an error text quotes. This is enough to find the value, and
// keeps a large value from filling the log.
const quoteLimit = 64

// Fault is the error for a key whose value is not allowed. Allowed describes the values that are. The error text is
// always one line, even if the value contains line breaks.
type Fault struct {
	Key     string
	Value   string
	Allowed string
}

// Error returns the key, the value (quoted, cut at 64 bytes) and the description of the allowed values.
func (f *Fault) Error() string {
	return fmt.Sprintf("%s %s: allowed: %s", plain(f.Key), Quote(f.Value), plain(f.Allowed))
}

// Quote quotes an untrusted string as one line of printable ASCII. Of a string longer than 64 bytes it quotes the first
// 64 and states the length.
func Quote(s string) string {
	if len(s) > quoteLimit {
		return strconv.QuoteToASCII(s[:quoteLimit]) + fmt.Sprintf(" (the first %d of %d bytes)", quoteLimit, len(s))
	}
	return strconv.QuoteToASCII(s)
}

// plain returns s unchanged if all of its characters are printable, and quoted otherwise. A key can contain unprintable
// characters, because some keys are made of file names.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return Quote(s)
	}
	return s
}

// in prefixes the key of a Fault with the key of the enclosing object. It returns any other error unchanged.
func in(key string, err error) error {
	if f, ok := err.(*Fault); ok {
		return &Fault{Key: key + "." + f.Key, Value: f.Value, Allowed: f.Allowed}
	}
	return err
}
