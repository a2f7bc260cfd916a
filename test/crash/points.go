package main

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// list is the content of points.tsv.
//
//go:embed points.tsv
var list string

// point is the moment right before one system call.
type point struct {
	// supervisor, svc-ipsec, launcher, or by-hand (svc-ipsec that the harness runs as another CNI runtime).
	process string
	action  string
	call    string
	nth     int
	pattern string
	name    string
}

func (p point) String() string { return fmt.Sprintf("%-10s %-7s %s", p.process, p.action, p.name) }

// of returns the expression that matches strace's output for the call in a process of this container.
func (p point) of(container string) *regexp.Regexp {
	return regexp.MustCompile(strings.ReplaceAll(p.pattern, "NAME", regexp.QuoteMeta(container)))
}

// parsePoints parses the format that is described at the beginning of points.tsv.
func parsePoints(text string) ([]point, error) {
	var points []point
	names := map[string]bool{}
	for number, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(line, "\t")
		if len(columns) != 6 {
			return nil, fmt.Errorf("line %d has %d columns, allowed: 6", number+1, len(columns))
		}
		nth, err := strconv.Atoi(columns[3])
		if err != nil || nth < 1 {
			return nil, fmt.Errorf("line %d: %q is not a number of 1 or more", number+1, columns[3])
		}
		p := point{columns[0], columns[1], columns[2], nth, columns[4], columns[5]}
		if _, err := regexp.Compile(p.pattern); err != nil {
			return nil, fmt.Errorf("line %d: %w", number+1, err)
		}
		if actions[p.action] == nil {
			return nil, fmt.Errorf("line %d: unknown action %q", number+1, p.action)
		}
		if names[p.String()] {
			return nil, fmt.Errorf("line %d: %s is listed twice", number+1, p)
		}
		names[p.String()] = true
		points = append(points, p)
	}
	return points, nil
}
