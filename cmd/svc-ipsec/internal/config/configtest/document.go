// Package configtest makes documents for the tests of an IPSEC container's configuration: one with every key, the hostile
// strings that go into each of them, and random valid ones together with what they mean.
//
// It shares no code with package config, and does not import it: what a document means is written down here a second time.
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

// Full is a document with every key. Its last connection, "good", is there to be left alone.
//
//go:embed full.json
var Full string

// Peers are the addresses of the peers of Full. That of the third connection is behind a name, NamedPeer.
var Peers = []string{"200.200.200.2", "2001:db8:200::2", "200.200.200.3", "200.200.200.4", "200.200.200.5", "200.200.200.9"}

// NamedPeer is the name of a peer in Full, PSKFile where a key is.
const (
	NamedPeer = "nice.example.org"
	PSKFile   = "/etc/keys/nice"
)

// Good is the id of the connection of Full in which no test changes anything.
const Good = "good"

// Place is a value of a document, by its path: connections[0].ikePolicy.pfs.
type Place struct {
	Path       string
	Key        string // the last key of the path
	Connection int    // -1: none
	Object     bool   // to be given another key; otherwise a value to be replaced

	before, after string
}

// mark stands where something else goes in. No document has it.
const mark = "\u2620"

// Places lists every value of a document that is no list, and every object, in the order of their paths. The good
// connection's are left out.
func Places(text string) []Place {
	document := decode(text)
	var places []Place
	visit(document, "", "", -1, func(p Place, set func() (undo func())) {
		undo := set()
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

var itsConnection = regexp.MustCompile(`^connections\[[0-9]+\]`)

// Few says whether some of the hostile strings are enough in a place: it is of a connection after the first, and what an
// earlier one's keys do is done by the same code. So it is for an algorithm of a list after the first.
func Few(places []Place, i int) bool {
	own := func(p Place) string { return inList.ReplaceAllString(itsConnection.ReplaceAllString(p.Path, ""), "[]") }
	return slices.ContainsFunc(places[:i], func(p Place) bool {
		return own(p) == own(places[i]) && (p.Connection >= 0 && p.Connection < places[i].Connection || strings.Contains(p.Path, "proposals"))
	})
}

var inList = regexp.MustCompile(`\[[0-9]+\]`)

// With is the document with raw JSON in a place: instead of the value there, or as the key of another value.
func (p Place) With(raw string) []byte { return []byte(p.before + raw + p.after) }

// Keys lists which keys the objects of Full have, by the object: "", connections, dpd, …
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
		panic(err) // a test's own words
	}
	return document
}

// visit calls f for each place, with a function that puts the mark there and returns another that takes it away.
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

// Quoted makes a JSON string of bytes as they are, be they UTF-8 or not; only what JSON demands is escaped.
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
