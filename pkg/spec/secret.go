package spec

import (
	"fmt"
	"io"
)

// Secret holds a key. It prints as [secret] when it is formatted, logged or marshalled. Only Reveal returns the bytes.
type Secret struct {
	// text is a pointer to a string. fmt does not call Format for %p and for a Secret in an unexported field. It then
	// prints the address of such a pointer, but would print the content of a pointer to a struct, slice or map.
	text *string
}

// NewSecret returns a secret with a copy of the bytes.
func NewSecret(b []byte) Secret {
	text := string(b)
	return Secret{&text}
}

// Reveal returns a copy of the bytes. It is meant for writing the one file that must contain them.
func (s Secret) Reveal() []byte {
	if s.text == nil {
		return nil
	}
	return []byte(*s.text)
}

// Format implements fmt.Formatter. It writes [secret] for every verb of fmt, and so for slog's text handler too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// MarshalJSON implements json.Marshaler. It returns "[secret]", so that the bytes are not written by accident.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }
