package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// form is one representation of a key in which a program may print it.
type form struct {
	name string
	text string
}

// forms returns the different representations of a key of at least 8 bytes. Each of them has at least 8 bytes.
func forms(text string) []form {
	list := []form{
		{"unchanged", text},
		{"quoted", fmt.Sprintf("%q", text)[1 : len(fmt.Sprintf("%q", text))-1]},
		{"hexadecimal", hex.EncodeToString([]byte(text))},
		{"hexadecimal", strings.ToUpper(hex.EncodeToString([]byte(text)))},
		{"hexadecimal", fmt.Sprintf("% x", text)},
		{"bytes of Go", strings.Trim(fmt.Sprint([]byte(text)), "[]")},
		{"dumped by Libreswan", dump(text)},
	}
	if b, err := json.Marshal(text); err == nil {
		list = append(list, form{"in JSON", string(b[1 : len(b)-1])})
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for before := range 3 {
			list = append(list, form{"base64", within64(encoding, text, before)})
		}
	}
	known := map[string]bool{}
	var different []form
	for _, f := range list {
		if !known[f.text] {
			known[f.text] = true
			different = append(different, f)
		}
	}
	return different
}

// within64 returns the characters with which text appears in the base64 encoding of a longer text. The parameter before
// is the offset of text in the longer text, modulo three. The characters at both ends that also depend on other bytes
// are left out.
func within64(encoding *base64.Encoding, text string, before int) string {
	encoded := encoding.WithPadding(base64.NoPadding).EncodeToString([]byte(strings.Repeat("\x00", before) + text))
	if (before+len(text))%3 != 0 {
		encoded = encoded[:len(encoded)-1]
	}
	return encoded[(before*8+5)/6:]
}

// dump returns the first 16 bytes in the format of Libreswan's debug log, which has groups of four bytes.
func dump(text string) string {
	var groups []string
	for i := 0; i+4 <= min(len(text), 16); i += 4 {
		groups = append(groups, fmt.Sprintf("% x", text[i:i+4]))
	}
	return strings.Join(groups, "  ")
}
