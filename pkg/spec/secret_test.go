package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const hidden = "correct horse"

// reveals reports whether a text contains the secret in one of the forms in which fmt prints bytes.
func reveals(text string) bool {
	b := []byte(hidden)
	return strings.Contains(text, hidden) || strings.Contains(text, fmt.Sprintf("%x", b[:4])) ||
		strings.Contains(text, fmt.Sprintf("%X", b[:4])) || strings.Contains(text, "99 111 114") ||
		strings.Contains(text, "0x63, 0x6f")
}

func TestASecretIsNotPrintedByAnyVerb(t *testing.T) {
	secret := NewSecret([]byte(hidden))
	type open struct{ Key Secret }
	type closed struct{ key Secret }
	values := map[string]any{
		"itself":                 secret,
		"a pointer":              &secret,
		"in a field":             open{secret},
		"in an unexported field": closed{secret},
		"behind a pointer":       &closed{secret},
		"in a list":              []Secret{secret},
		"in a map":               map[string]Secret{"k": secret},
		"in an error":            fmt.Errorf("key %v", secret),
	}
	for name, value := range values {
		for verb := 'A'; verb <= 'z'; verb++ {
			for _, flags := range []string{"", "+", "#", " ", "0", "-30", ".2"} {
				if text := fmt.Sprintf("%"+flags+string(verb), value); reveals(text) {
					t.Errorf("%s: %%%s%c prints %s", name, flags, verb, text)
				}
			}
		}
	}
}

func TestASecretIsNotLogged(t *testing.T) {
	secret := NewSecret([]byte(hidden))
	var out bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(handler).With("psk", secret)
		log.Info("m", "key", secret, slog.Group("g", "key", &secret), "all", []Secret{secret})
	}
	if reveals(out.String()) || strings.Count(out.String(), "[secret]") < 6 {
		t.Error(out.String())
	}
}

func TestASecretIsNotMarshalled(t *testing.T) {
	content, err := json.Marshal(struct{ Key Secret }{NewSecret([]byte(hidden))})
	if err != nil || string(content) != `{"Key":"[secret]"}` {
		t.Errorf("%s, %v", content, err)
	}
}

func TestRevealReturnsTheBytes(t *testing.T) {
	if got := NewSecret([]byte(hidden)).Reveal(); string(got) != hidden {
		t.Errorf("%q", got)
	}
	if got := (Secret{}).Reveal(); len(got) != 0 {
		t.Errorf("the zero Secret reveals %q", got)
	}
}
