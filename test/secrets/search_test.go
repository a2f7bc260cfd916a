package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

const secret = "it's \"ä\" \\ <secret>"

func searchFor(texts ...string) *search {
	known := newKeys()
	for _, text := range texts {
		known.add(text, "the test")
	}
	return newSearch(known)
}

func TestAKeyIsFoundInEachForm(t *testing.T) {
	inJSON, err := json.Marshal(map[string]string{"psk": secret})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"unchanged":        "x" + secret + "y",
		"at the end":       secret,
		"in JSON":          string(inJSON),
		"in Go's quotes":   strconv.Quote(secret),
		"hexadecimal":      "0x" + hex.EncodeToString([]byte(secret)),
		"upper case":       fmt.Sprintf("%X", secret),
		"bytes of Go":      fmt.Sprint([]byte("a" + secret + "b")),
		"dump":             "|   69 74 27 73  20 22 c3 a4  22 20 5c 20  3c 73 65 63\n",
		"base64":           base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 of a text": base64.StdEncoding.EncodeToString([]byte("user:" + secret + "!")),
	} {
		if searchFor("another key", secret).text(name, []byte(text)) {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
	for _, text := range []string{"", "it's", secret[:len(secret)-1], strings.ToUpper(secret), "an unrelated text"} {
		if s := searchFor(secret); !s.text("", []byte(text)) {
			t.Errorf("found in %q: %q", text, s.findings)
		}
	}
}

func TestAKeyIsFoundInTheBase64OfALongerText(t *testing.T) {
	for length := minLength; length < 20; length++ {
		key := "0123456789abcdefghijklm"[:length]
		for before := range 7 {
			for after := range 4 {
				text := strings.Repeat("\xff", before) + key + strings.Repeat("\xff", after)
				text = base64.StdEncoding.EncodeToString([]byte(text))
				if searchFor(key).text("", []byte(text)) {
					t.Errorf("%d bytes after %d and before %d: not found in %q", length, before, after, text)
				}
			}
		}
	}
}

func TestAKeyIsFoundAcrossTheBuffersOfALargeText(t *testing.T) {
	for _, at := range []int{0, 1<<20 - len(secret), 1<<20 - 5, 1 << 20, 2<<20 - 7, 3 << 20} {
		text := bytes.Repeat([]byte("."), 3<<20+100)
		copy(text[at:], secret)
		s := searchFor(secret)
		if err := s.stream("", bytes.NewReader(text)); err != nil || len(s.findings) == 0 {
			t.Errorf("at %d: not found: %v", at, err)
		}
	}
}

func TestAFindingNamesThePlaceButNotTheKey(t *testing.T) {
	s := searchFor(secret, "another key")
	s.text("status", []byte("another key and "+secret))
	var out strings.Builder
	if s.report(&out, "") != 1 ||
		strings.Contains(out.String(), "secret>") || strings.Contains(out.String(), "another key") {
		t.Error(out.String())
	}
	if !strings.HasPrefix(out.String(), "not ok secrets: status: a key of 11 bytes, unchanged, from the test") {
		t.Error(out.String())
	}
}

func TestASearchWithoutKeysFails(t *testing.T) {
	var out strings.Builder
	if searchFor("short").report(&out, "") != 1 {
		t.Error(out.String())
	}
}

func TestKeysInSources(t *testing.T) {
	for text, want := range map[string]string{
		`{"psk": "in \"JSON\" it is"}`:                           `in "JSON" it is`,
		"`,\"psk\":\"within Go\"}`":                              "within Go",
		"    psk: &psk an example, known\n":                      "an example, known",
		"{id: f, psk: in braces, mtu: 1}":                        "in braces",
		"psk: \"a text protobuf\" mtu: 1":                        "a text protobuf",
		"psk() { echo 'not\"to be seen'; }":                      `not"to be seen`,
		`{"psk": "short"} psk: *alias psk: "%s" psk: ($x | f())`: "",
	} {
		k := newKeys()
		k.fromText([]byte(text), "")
		var got []string
		for _, key := range k.list {
			got = append(got, key.text)
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
