package spec

import (
	"fmt"
	"io"
)

// Secret is a key that prints as [secret] wherever it is formatted, logged or marshalled. Reveal is the only way to its
// bytes.
type Secret struct {
	// A pointer to what is neither struct, slice nor map: where fmt does not ask Format (%p, or a secret in an unexported
	// field) it prints an address.
	text *string
}

// NewSecret copies the bytes.
func NewSecret(b []byte) Secret {
	text := string(b)
	return Secret{&text}
}

// Reveal returns the bytes, for the one file that must hold them.
func (s Secret) Reveal() []byte {
	if s.text == nil {
		return nil
	}
	return []byte(*s.text)
}

// Format hides the bytes from the verbs of fmt, and so from slog's text handler.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// MarshalJSON hides the bytes: a secret is never written by accident.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }
