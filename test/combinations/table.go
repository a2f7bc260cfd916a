package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// row is one combination. The words are the table's, which are the configuration's.
type row struct {
	always   bool // in make test too
	ike      ike
	child    child
	outer    int   // 4 or 6: the family of the two external addresses
	inner    []int // 4, 6: those of the networks; none in transport mode
	networks [2]int
	ids      string
	way      string
}

type ike struct{ version, mode, cipher, integrity, group string }

type child struct{ protocol, cipher, integrity, group, mode string }

// What left and right call themselves, by kind.
var identities = map[string][2]string{
	"address": {},
	"fqdn":    {"left.example.org", "@right.example.org"},
	"user":    {"vpn@left.example.org", "vpn@right.example.org"},
	"text":    {"@[branch-7/left]", "@[branch-7/right]"},
	"hex":     {"@#0102ff", "@#0102fe"},
	"dn":      {"C=FR, O=Example, CN=left", "C=FR, O=Example, CN=right"},
}

// The ways between the two: who asks for the tunnel, and whether the left one is behind a router with NAT. Where it is the
// left one alone, the right one is response-only.
var ways = []string{"left", "both", "nat"}

func (r row) name() string {
	parts := []string{"IKE" + r.ike.version, r.ike.mode, r.ike.cipher, r.ike.integrity, r.ike.group + ",",
		strings.ToUpper(r.child.protocol), r.child.cipher, r.child.integrity, r.child.group, r.child.mode}
	if r.child.mode == "tunnel" {
		for _, family := range r.inner {
			parts = append(parts, "IPv"+strconv.Itoa(family))
		}
		parts = append(parts, fmt.Sprintf("%dx%d", r.networks[0], r.networks[1]), "in")
	}
	parts = append(parts, "IPv"+strconv.Itoa(r.outer)+",", r.ids)
	if r.way != "left" {
		parts = append(parts, r.way)
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(strings.Join(parts, " "), " - ", " ")), " ")
}

// edit is one change of the two containers: rows that can be there together, as connections to one peer. It has one IKE
// policy; and Libreswan, asked for one more Child SA of IKEv2, looks at the proposals of the connection that has the IKE SA,
// whose networks ever it is asked for: there rows differ in their networks alone.
type edit struct{ rows []row }

func (e edit) takes(r row) bool {
	first := e.rows[0]
	return len(e.rows) < maxRows && first.ike == r.ike && first.outer == r.outer && first.ids == r.ids && first.way == r.way &&
		(r.ike.version == "v1" || first.child == r.child) && first.child.mode == r.child.mode
}

func group(rows []row, wanted func(row) bool) (edits []edit) {
	for _, r := range rows {
		switch last := len(edits) - 1; {
		case !wanted(r):
		case last >= 0 && edits[last].takes(r):
			edits[last].rows = append(edits[last].rows, r)
		default:
			edits = append(edits, edit{rows: []row{r}})
		}
	}
	return edits
}

// lines reads a file of cells between tabs. Lines that begin with # are for the reader.
func lines(path string, cells int, read func([]string) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		found := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' })
		if len(found) != cells {
			return fmt.Errorf("%s:%d: %d cells, want %d", path, i+1, len(found), cells)
		}
		if err := read(found); err != nil {
			return fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
	}
	return nil
}

func readTable(path string) (rows []row, err error) {
	seen := map[string]bool{}
	err = lines(path, 8, func(cells []string) error {
		r, err := parse(cells)
		if err == nil && seen[r.name()] {
			err = fmt.Errorf("%s is there twice", r.name())
		}
		seen[r.name()] = true
		rows = append(rows, r)
		return err
	})
	return rows, err
}

func parse(cells []string) (r row, err error) {
	r.always = cells[0] == "test"
	r.ids, r.way = cells[6], cells[7]
	_, known := identities[r.ids]
	if !known || !slices.Contains(ways, r.way) || !r.always && cells[0] != "full" {
		return r, fmt.Errorf("unknown word in %q", cells)
	}
	if _, err := fmt.Sscan(cells[1], &r.ike.version, &r.ike.mode, &r.ike.cipher, &r.ike.integrity, &r.ike.group); err != nil {
		return r, fmt.Errorf("ike %q: %w", cells[1], err)
	}
	if _, err := fmt.Sscan(cells[2], &r.child.protocol, &r.child.cipher, &r.child.integrity, &r.child.group, &r.child.mode); err != nil {
		return r, fmt.Errorf("child %q: %w", cells[2], err)
	}
	if r.outer, err = strconv.Atoi(cells[3]); err != nil {
		return r, err
	}
	if cells[4] == "-" {
		return r, nil
	}
	for _, family := range cells[4] {
		r.inner = append(r.inner, int(family-'0'))
	}
	_, err = fmt.Sscanf(cells[5], "%dx%d", &r.networks[0], &r.networks[1])
	return r, err
}
