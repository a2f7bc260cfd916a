package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// row is one combination. Its values are those of the table, which uses the values of the configuration.
type row struct {
	always   bool // whether make test runs it too
	ike      ike
	child    child
	outer    int    // the family of the two external addresses: 4 or 6
	inner    []int  // the families of the networks; empty in transport mode
	networks [2]int // the number of networks of the left and of the right side
	ids      string // a key of identities
	way      string // one of ways
}

type ike struct{ version, mode, cipher, integrity, group string }

type child struct{ protocol, cipher, integrity, group, mode string }

// identities are the identities of the left and the right side, by kind.
var identities = map[string][2]string{
	"address": {},
	"fqdn":    {"left.example.org", "@right.example.org"},
	"user":    {"vpn@left.example.org", "vpn@right.example.org"},
	"text":    {"@[branch-7/left]", "@[branch-7/right]"},
	"hex":     {"@#0102ff", "@#0102fe"},
	"dn":      {"C=FR, O=Example, CN=left", "C=FR, O=Example, CN=right"},
}

// ways are the ways in which a connection is initiated: by the left side, by both sides, or by the left side from
// behind a router with NAT. If only the left side initiates, the right side is response-only.
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

// edit is one reconfigure of the two containers. Its rows become connections to the same peer, so they have the same
// IKE policy. With IKEv2 they also have the same Child SA parameters and differ in their networks only: for a request
// of a further Child SA, Libreswan uses the proposals of the connection that owns the IKE SA, whatever networks are
// requested.
type edit struct{ rows []row }

// accepts reports whether the row can be added to the edit.
func (e edit) accepts(r row) bool {
	first := e.rows[0]
	return len(e.rows) < maxRows && first.ike == r.ike && first.outer == r.outer && first.ids == r.ids &&
		first.way == r.way && (r.ike.version == "v1" || first.child == r.child) && first.child.mode == r.child.mode
}

// group combines consecutive selected rows into edits.
func group(rows []row, selected func(row) bool) (edits []edit) {
	for _, r := range rows {
		switch last := len(edits) - 1; {
		case !selected(r):
		case last >= 0 && edits[last].accepts(r):
			edits[last].rows = append(edits[last].rows, r)
		default:
			edits = append(edits, edit{rows: []row{r}})
		}
	}
	return edits
}

// lines calls read with the cells of each line of a file. Cells are separated by one or more tabs. Lines that start
// with # are comments.
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
			err = fmt.Errorf("%s is listed twice", r.name())
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
		return r, fmt.Errorf("unknown value in %q", cells)
	}
	i, c := &r.ike, &r.child
	if _, err := fmt.Sscan(cells[1], &i.version, &i.mode, &i.cipher, &i.integrity, &i.group); err != nil {
		return r, fmt.Errorf("ike %q: %w", cells[1], err)
	}
	if _, err := fmt.Sscan(cells[2], &c.protocol, &c.cipher, &c.integrity, &c.group, &c.mode); err != nil {
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
