package main

import (
	"regexp"
	"strings"
)

// sa is an IKE SA or Child SA in the output of `swanctl --list-sas --raw`. The names and values of the fields are those
// of swanctl.
type sa struct {
	name     string
	fields   map[string]string
	children []sa
}

var (
	field = regexp.MustCompile(`([a-z0-9-]+)=(\[[^\]]*\]|\S*)`)
	child = regexp.MustCompile(`([A-Za-z0-9_-]+)-\d+ \{([^{}]*)\}`)
)

// parseSAs parses events of the form
//
//	list-sa event {ours {uniqueid=1 version=2 state=ESTABLISHED … child-sas {net-1 {name=net state=INSTALLED …}}}}
//
// A value with a blank, such as a distinguished name, is truncated at the blank.
func parseSAs(raw string) (all []sa) {
	for _, event := range strings.Split(raw, "list-sa event {")[1:] {
		name, rest, ok := strings.Cut(event, " {")
		if !ok {
			continue
		}
		ikeFields, children, _ := strings.Cut(rest, "child-sas {")
		ike := sa{name: name, fields: fields(ikeFields)}
		for _, match := range child.FindAllStringSubmatch(children, -1) {
			ike.children = append(ike.children, sa{name: match[1], fields: fields(match[2])})
		}
		all = append(all, ike)
	}
	return all
}

func fields(text string) map[string]string {
	all := map[string]string{}
	for _, match := range field.FindAllStringSubmatch(text, -1) {
		all[match[1]] = match[2]
	}
	return all
}

// has reports whether an SA has all fields of a text like "version=2 encr-alg=AES_CBC".
func (s sa) has(wanted string) bool {
	for key, value := range fields(wanted) {
		if s.fields[key] != value {
			return false
		}
	}
	return true
}

// text returns the name and the most important fields, for a message.
func (s sa) text() string {
	var parts []string
	for _, key := range []string{
		"version", "state", "mode", "protocol", "encap", "encr-alg", "encr-keysize", "integ-alg", "prf-alg", "dh-group",
		"local-ts", "remote-ts",
	} {
		if value := s.fields[key]; value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	for _, c := range s.children {
		parts = append(parts, "child {"+c.text()+"}")
	}
	return s.name + " " + strings.Join(parts, " ")
}
