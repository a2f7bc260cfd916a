package config

import (
	"encoding/base64"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// MaxSecret is the maximum length of a pre-shared key in bytes. Libreswan's secrets file accepts about 1000 bytes in
// hexadecimal, but not 2000.
const MaxSecret = 1000

// pskKeys are the keys for a pre-shared key: as text, as base64, or as the path of a file.
var pskKeys = []string{"psk", "pskBase64", "pskFile"}

// secret decodes a key that is given as text. It refuses a string with a lone surrogate, which encoding/json would
// replace: a key that differs from the peer's by one byte never authenticates. It refuses invalid UTF-8 for the same
// reason.
func secret(key string, raw json.RawMessage) (spec.Secret, error) {
	fault := &spec.Fault{
		Key: key, Value: "[secret]", Allowed: "a string of 1 to " + strconv.Itoa(MaxSecret) + " bytes of UTF-8",
	}
	var s string
	if absent(raw) || !utf8.Valid(raw) || json.Unmarshal(raw, &s) != nil || s == "" || len(s) > MaxSecret {
		return spec.Secret{}, fault
	}
	if strings.ContainsRune(s, utf8.RuneError) && loneSurrogate(string(raw)) {
		return spec.Secret{}, fault
	}
	return spec.NewSecret([]byte(s)), nil
}

// loneSurrogate reports whether a JSON string contains half of a surrogate pair, which decodes to U+FFFD.
func loneSurrogate(raw string) bool {
	given := strings.Count(raw, string(utf8.RuneError)) + strings.Count(strings.ToLower(raw), `\ufffd`)
	var s string
	_ = json.Unmarshal([]byte(raw), &s)
	return strings.Count(s, string(utf8.RuneError)) > given
}

// secretBase64 decodes a key that is given in base64. It refuses line breaks, which encoding/base64 ignores.
func secretBase64(key string, raw json.RawMessage) (spec.Secret, error) {
	fault := &spec.Fault{
		Key: key, Value: "[secret]",
		Allowed: "1 to " + strconv.Itoa(MaxSecret) + " bytes in base64, the standard one with its padding",
	}
	var s string
	if json.Unmarshal(raw, &s) != nil || len(s) > base64.StdEncoding.EncodedLen(MaxSecret) ||
		strings.ContainsAny(s, "\r\n") {
		return spec.Secret{}, fault
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > MaxSecret {
		return spec.Secret{}, fault
	}
	return spec.NewSecret(b), nil
}

// filePath decodes the absolute path of a file. The fault does not contain a value that is not an absolute path,
// because it may be a secret under the wrong key.
func filePath(key string, raw json.RawMessage) (string, error) {
	const allowed = "an absolute path without . and .. and doubled slashes, of at most 1024 bytes of printable text"
	var s string
	if json.Unmarshal(raw, &s) != nil || !path.IsAbs(s) {
		return "", &spec.Fault{Key: key, Value: "[hidden]", Allowed: allowed}
	}
	if path.Clean(s) != s || s == "/" || len(s) > maxText || !printable(s) {
		return "", &spec.Fault{Key: key, Value: s, Allowed: allowed}
	}
	return s, nil
}
