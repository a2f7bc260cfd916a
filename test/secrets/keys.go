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

// least is the shortest key that is looked for.
const least = 8

// key is one that is used, and where it was found first.
type key struct {
	text   string
	origin string
}

// keys is what is known of them.
type keys struct {
	list  []key
	known map[string]bool
}

func newKeys() *keys { return &keys{known: map[string]bool{}} }

func (k *keys) add(text, origin string) {
	if len(text) < least || k.known[text] {
		return
	}
	k.known[text] = true
	k.list = append(k.list, key{text, origin})
}

var (
	// As JSON has it, or a text protobuf.
	quoted = regexp.MustCompile(`(?i)\bpsk"?\s*:\s*"((?:[^"\\\n]|\\.)+)"`)
	// As YAML has it: to the end of the line, or in braces to the next comma.
	plain = regexp.MustCompile(`\bpsk: (?:&\w+ )?([^\s("'{\[\]},*&|%$\\][^\n}]*)(\}?)`)
	// As the words of the bats files have it.
	printed = regexp.MustCompile(`\bpsk\(\) \{ echo '([^'\n]+)'`)
)

// fromSources takes the keys that are written down in the tests and examples below a folder.
func (k *keys) fromSources(root string) error {
	for _, folder := range []string{"cmd", "pkg", "test", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			switch filepath.Ext(path) {
			case ".bats", ".bash", ".yaml", ".json":
			case ".go":
				if folder != "test" && !strings.HasSuffix(path, "_test.go") {
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
		if !strings.Contains(value, "`") { // else it is Go that spans two texts
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

// unquote takes a text out of JSON's quotes; what JSON does not have is taken as it is.
func unquote(text string) string {
	var value string
	if err := json.Unmarshal([]byte(`"`+text+`"`), &value); err != nil {
		return text
	}
	return value
}

// fromSecrets takes those of a file of Libreswan's, as svc-ipsec writes it: hexadecimal.
func (k *keys) fromSecrets(text []byte, origin string) {
	for line := range bytes.Lines(text) {
		_, word, found := bytes.Cut(line, []byte("PSK 0x"))
		if b, err := hex.DecodeString(string(bytes.TrimSpace(word))); found && err == nil {
			k.add(string(b), origin)
		}
	}
}

// fromRecord takes every psk and pskBase64 in a JSON text.
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
			text, is := each.(string)
			switch {
			case is && name == "psk":
				k.add(text, origin)
			case is && name == "pskBase64":
				// What cannot be decoded is refused as it is: a key all the same.
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
