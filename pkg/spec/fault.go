package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// quoteLimit is how many bytes of a refused value an error repeats: enough to find it, too little to fill a log.
const quoteLimit = 64

// Fault says that the value of one key is not allowed, and what would be. Its text is one line whatever the value is.
type Fault struct {
	Key     string
	Value   string
	Allowed string
}

// Error names the key, the value (quoted, cut at 64 bytes) and what is allowed.
func (f *Fault) Error() string {
	return fmt.Sprintf("%s %s: allowed: %s", plain(f.Key), Quote(f.Value), plain(f.Allowed))
}

// Quote makes one printable line of a foreign string, cut at 64 bytes.
func Quote(s string) string {
	if len(s) > quoteLimit {
		return strconv.QuoteToASCII(s[:quoteLimit]) + fmt.Sprintf(" (the first %d of %d bytes)", quoteLimit, len(s))
	}
	return strconv.QuoteToASCII(s)
}

// plain leaves a text as it is, unless it holds what cannot stand in one line: a key may have been made of a file's name.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return Quote(s)
	}
	return s
}

// in puts the key of an enclosing object in front of a fault's own.
func in(key string, err error) error {
	if f, ok := err.(*Fault); ok {
		return &Fault{Key: key + "." + f.Key, Value: f.Value, Allowed: f.Allowed}
	}
	return err
}
