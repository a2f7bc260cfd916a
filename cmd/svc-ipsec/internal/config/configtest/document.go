// Package configtest provides documents for tests of the configuration of an IPSEC container: a document with all keys,
// the hostile strings that tests put into each key, and random valid documents together with their expected meaning.
//
// It does not import package config and shares no code with it, so the expected meaning is computed independently.
package configtest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Full is a document with all keys. Tests must not change its last connection, "good".
//
//go:embed full.json
var Full string

// Peers are the addresses of the peers of Full. In Full the third connection names its peer by NamedPeer instead.
var Peers = []string{
	"200.200.200.2", "2001:db8:200::2", "200.200.200.3", "200.200.200.4", "200.200.200.5", "200.200.200.9",
}

// NamedPeer is the host name of a peer in Full. PSKFile is the path of a key in Full.
const (
	NamedPeer = "nice.example.org"
	PSKFile   = "/etc/keys/nice"
)

// Good is the id of the connection of Full that tests must not change.
const Good = "good"

// Place is a position in a document at which a test inserts a value.
type Place struct {
	Path       string // connections[0].ikePolicy.pfs
	Key        string // the last key of the path
	Connection int    // the index of the connection, or -1 outside of connections
	Object     bool   // whether the test adds a key to an object; otherwise it replaces a value

	before, after string // the document before and after the position
}

// mark marks a position in a document. No document contains it.
const mark = "\u2620"

// Places lists the values of a document that are neither objects nor lists, and the objects, in the order of their
// paths. It omits the connection Good.
func Places(text string) []Place {
	document := decode(text)
	var places []Place
	visit(document, "", "", -1, func(p Place, setMark func() (undo func())) {
		undo := setMark()
		text, err := json.Marshal(document)
		undo()
		var ok bool
		if p.before, p.after, ok = strings.Cut(string(text), `"`+mark+`"`); err != nil || !ok {
			panic("no place " + p.Path)
		}
		places = append(places, p)
	})
	return places
}

var (
	connectionPrefix = regexp.MustCompile(`^connections\[[0-9]+\]`)
	listIndex        = regexp.MustCompile(`\[[0-9]+\]`)
)

// Few reports whether it is sufficient to test a part of the hostile strings in places[i]. This is so if an earlier
// connection, or an earlier proposal of a list, has the same key, because the same code handles both.
func Few(places []Place, i int) bool {
	pattern := func(p Place) string {
		return listIndex.ReplaceAllString(connectionPrefix.ReplaceAllString(p.Path, ""), "[]")
	}
	return slices.ContainsFunc(places[:i], func(p Place) bool {
		return pattern(p) == pattern(places[i]) &&
			(p.Connection >= 0 && p.Connection < places[i].Connection || strings.Contains(p.Path, "proposals"))
	})
}

// With returns the document with raw JSON in this place: in the place of the value, or as the key of a new member.
func (p Place) With(raw string) []byte { return []byte(p.before + raw + p.after) }

// Keys lists the keys of the objects in Full, by the key of the object: "" for the document, connections, dpd, …
func Keys() map[string][]string {
	keys := map[string][]string{}
	collect(decode(Full), "", keys)
	for name := range keys {
		slices.Sort(keys[name])
		keys[name] = slices.Compact(keys[name])
	}
	return keys
}

func collect(node any, name string, into map[string][]string) {
	switch v := node.(type) {
	case []any:
		for _, item := range v {
			collect(item, name, into)
		}
	case map[string]any:
		for key, value := range v {
			into[name] = append(into[name], key)
			collect(value, key, into)
		}
	}
}

func decode(text string) any {
	var document any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		panic(err) // the document is part of the test
	}
	return document
}

// visit calls f for each place, with a function that inserts the mark there and returns a function that removes it.
func visit(node any, path, key string, connection int, f func(Place, func() func())) {
	switch v := node.(type) {
	case []any:
		for i := range v {
			if path == "connections" {
				connection = i
			}
			at := fmt.Sprintf("%s[%d]", path, i)
			if !nested(v[i]) {
				f(Place{Path: at, Key: key, Connection: connection}, func() func() {
					old := v[i]
					v[i] = mark
					return func() { v[i] = old }
				})
				continue
			}
			visit(v[i], at, key, connection, f)
		}
	case map[string]any:
		if v["id"] == Good {
			return
		}
		f(Place{Path: path, Key: key, Connection: connection, Object: true}, func() func() {
			v[mark] = true
			return func() { delete(v, mark) }
		})
		for _, name := range slices.Sorted(maps.Keys(v)) {
			at := strings.TrimPrefix(path+"."+name, ".")
			if !nested(v[name]) {
				f(Place{Path: at, Key: name, Connection: connection}, func() func() {
					old := v[name]
					v[name] = mark
					return func() { v[name] = old }
				})
				continue
			}
			visit(v[name], at, name, connection, f)
		}
	}
}

func nested(node any) bool {
	switch node.(type) {
	case []any, map[string]any:
		return true
	}
	return false
}

// Quoted returns s as a JSON string. It keeps invalid UTF-8, and escapes only the characters that JSON requires to be
// escaped.
func Quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c < 0x20:
			b.WriteString(`\u00` + strconv.FormatUint(uint64(c>>4), 16) + strconv.FormatUint(uint64(c&15), 16))
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
