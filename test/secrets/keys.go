package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// minLength is the length of the shortest key that is searched for.
const minLength = 8

// key is a key that the tests use.
type key struct {
	text   string
	origin string // the file in which it was found first
}

// keys is the set of known keys.
type keys struct {
	list  []key
	known map[string]bool
}

func newKeys() *keys { return &keys{known: map[string]bool{}} }

func (k *keys) add(text, origin string) {
	if len(text) < minLength || k.known[text] {
		return
	}
	k.known[text] = true
	k.list = append(k.list, key{text, origin})
}

var (
	// The form in JSON and in text protobufs.
	quoted = regexp.MustCompile(`(?i)\bpsk"?\s*:\s*"((?:[^"\\\n]|\\.)+)"`)
	// The form in YAML: up to the end of the line, or within braces up to the next comma.
	plain = regexp.MustCompile(`\bpsk: (?:&\w+ )?([^\s("'{\[\]},*&|%$\\][^\n}]*)(\}?)`)
	// The functions of bats files that print a key.
	printed = regexp.MustCompile(`\bpsk\(\) \{ echo '([^'\n]+)'`)
)

// fromSources adds the keys in the tests and examples below root.
func (k *keys) fromSources(root string) error {
	for _, directory := range []string{"cmd", "pkg", "test", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, directory), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			switch filepath.Ext(path) {
			case ".bats", ".bash", ".yaml", ".json":
			case ".go":
				if directory != "test" && !strings.HasSuffix(path, "_test.go") {
					return nil
				}
			default:
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			k.fromText(text, path)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *keys) fromText(text []byte, origin string) {
	add := func(value string) {
		if !strings.Contains(value, "`") { // otherwise the match begins in one raw string of Go and ends in another
			k.add(value, origin)
		}
	}
	for _, match := range quoted.FindAllSubmatch(text, -1) {
		add(unquote(string(match[1])))
	}
	for _, match := range plain.FindAllSubmatch(text, -1) {
		value := string(match[1])
		if len(match[2]) > 0 {
			value, _, _ = strings.Cut(value, ",")
		}
		add(strings.TrimSpace(value))
	}
	for _, match := range printed.FindAllSubmatch(text, -1) {
		add(string(match[1]))
	}
}

// unquote decodes the content of a JSON string. It returns text unchanged if it is not valid in JSON.
func unquote(text string) string {
	var value string
	if err := json.Unmarshal([]byte(`"`+text+`"`), &value); err != nil {
		return text
	}
	return value
}

// fromSecrets adds the keys in a secrets file of Libreswan, in the hexadecimal form that svc-ipsec writes.
func (k *keys) fromSecrets(text []byte, origin string) {
	for line := range bytes.Lines(text) {
		_, digits, found := bytes.Cut(line, []byte("PSK 0x"))
		if b, err := hex.DecodeString(string(bytes.TrimSpace(digits))); found && err == nil {
			k.add(string(b), origin)
		}
	}
}

// fromRecord adds the value of every psk and pskBase64 in a JSON text.
func (k *keys) fromRecord(text []byte, origin string) {
	var value any
	if json.Unmarshal(text, &value) == nil {
		k.fromValue(value, origin)
	}
}

func (k *keys) fromValue(value any, origin string) {
	switch value := value.(type) {
	case []any:
		for _, each := range value {
			k.fromValue(each, origin)
		}
	case map[string]any:
		for name, each := range value {
			text, isString := each.(string)
			switch {
			case isString && name == "psk":
				k.add(text, origin)
			case isString && name == "pskBase64":
				// svc-ipsec refuses a value that is not base64, but such a value must not be printed either.
				if b, err := base64.StdEncoding.DecodeString(text); err == nil {
					text = string(b)
				}
				k.add(text, origin)
			default:
				k.fromValue(each, origin)
			}
		}
	}
}
