package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// MaxSecret is the longest pre-shared key: Libreswan's secrets file takes some 1000 bytes written in hex, 2000 not.
const MaxSecret = 1000

// The keys under which a pre-shared key is given: as text, as any bytes, or where it is.
var pskKeys = []string{"psk", "pskBase64", "pskFile"}

// decodePSK reads the pre-shared key, or the path of its file, which is not read here. No fault repeats what might be a key.
func (c *Connection) decodePSK(key string, fields map[string]json.RawMessage) error {
	var given []string
	for _, name := range pskKeys {
		if !absent(fields[name]) {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		return &spec.Fault{Key: key + ".psk", Value: strings.Join(given, " and "), Allowed: "exactly one of " + strings.Join(pskKeys, ", ")}
	}
	var err error
	switch name := given[0]; name {
	case "psk":
		c.PSK, err = secret(key+".psk", fields[name])
	case "pskBase64":
		c.PSK, err = secretBase64(key+".pskBase64", fields[name])
	default:
		c.PSKFile, err = filePath(key+".pskFile", fields[name])
	}
	return err
}

// secret reads the bytes of a string. What encoding/json would alter (a lone surrogate) is refused: a key that differs
// from the peer's by one byte never authenticates. The callers have refused invalid UTF-8 before.
func secret(key string, raw json.RawMessage) (spec.Secret, error) {
	fault := &spec.Fault{Key: key, Value: "[secret]", Allowed: "a string of 1 to " + strconv.Itoa(MaxSecret) + " bytes of UTF-8"}
	var s string
	if absent(raw) || !utf8.Valid(raw) || json.Unmarshal(raw, &s) != nil || s == "" || len(s) > MaxSecret {
		return spec.Secret{}, fault
	}
	if strings.ContainsRune(s, utf8.RuneError) && loneSurrogate(string(raw)) {
		return spec.Secret{}, fault
	}
	return spec.NewSecret([]byte(s)), nil
}

// loneSurrogate says whether a JSON string holds half of a surrogate pair, which decodes to U+FFFD.
func loneSurrogate(raw string) bool {
	written := strings.Count(raw, string(utf8.RuneError)) + strings.Count(strings.ToLower(raw), `\ufffd`)
	var s string
	_ = json.Unmarshal([]byte(raw), &s)
	return strings.Count(s, string(utf8.RuneError)) > written
}

// secretBase64 reads bytes of any value. The decoder itself would skip line breaks.
func secretBase64(key string, raw json.RawMessage) (spec.Secret, error) {
	fault := &spec.Fault{Key: key, Value: "[secret]", Allowed: "1 to " + strconv.Itoa(MaxSecret) + " bytes in base64, the standard one with its padding"}
	var s string
	if json.Unmarshal(raw, &s) != nil || len(s) > base64.StdEncoding.EncodedLen(MaxSecret) || strings.ContainsAny(s, "\r\n") {
		return spec.Secret{}, fault
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > MaxSecret {
		return spec.Secret{}, fault
	}
	return spec.NewSecret(b), nil
}

// filePath reads the path of a file. What cannot be one may be a secret that was put under the wrong key.
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

// takePSK takes the key that was found in its file, now or before.
func (c *Connection) takePSK(found Found) error {
	if c.PSKFile == "" || !c.Up {
		return nil
	}
	file, ok := found.Files[c.PSKFile]
	switch {
	case !ok:
		return fmt.Errorf("%s.pskFile %s: was not read", c.place, spec.Quote(c.PSKFile))
	case file.Fault != "" && len(file.Content.Reveal()) == 0:
		return fmt.Errorf("%s.pskFile %s: %s", c.place, spec.Quote(c.PSKFile), file.Fault)
	}
	c.PSK = file.Content
	return nil
}
