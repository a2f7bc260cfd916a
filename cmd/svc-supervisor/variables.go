package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// ownVariables have the prefix of the option variables, but are set in the units of containers (docs/executables.md).
var ownVariables = []string{"SVC_OWNER", "SVC_CONTAINER", "SVC_TYPE"}

// unknownVariable is a variable of the environment that no option reads.
type unknownVariable struct {
	name    string
	nearest string // the known variable with the smallest edit distance
	close   bool   // the edit distance is at most 3, so the name is probably misspelt
}

func (v unknownVariable) String() string {
	return fmt.Sprintf("variable %s is unknown and ignored; the nearest known one is %s", v.name, v.nearest)
}

// unknownVariables lists the variables SVC_… that no option of any command reads, sorted by name. A misspelt variable
// has no effect, which is hard to notice without a warning.
func unknownVariables(commands []*cli.Command, environment []string) []unknownVariable {
	known := knownVariables(commands)
	var list []unknownVariable
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(strings.ToUpper(name), "SVC_") ||
			slices.Contains(known, name) || slices.Contains(ownVariables, name) {
			continue
		}
		nearest := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
		list = append(list, unknownVariable{oneCell(name), nearest, distance(name, nearest) <= 3})
	}
	slices.SortFunc(list, func(a, b unknownVariable) int { return strings.Compare(a.name, b.name) })
	return list
}

func knownVariables(commands []*cli.Command) []string {
	var known []string
	for _, command := range commands {
		for _, flag := range command.Flags {
			if f, ok := flag.(interface{ GetEnvVars() []string }); ok {
				known = append(known, f.GetEnvVars()...)
			}
		}
		known = append(known, knownVariables(command.Subcommands)...)
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// warnOfVariables prints a warning for each misspelt variable on stderr. It does nothing for the command run, which
// logs all unknown variables.
func warnOfVariables(c *cli.Context) error {
	if c.Args().First() == "run" {
		return nil
	}
	for _, v := range unknownVariables(c.App.Commands, os.Environ()) {
		if v.close {
			fmt.Fprintf(c.App.ErrWriter, "warning: %v\n", v)
		}
	}
	return nil
}

// distance returns the edit distance of a and b: the number of letters to insert, delete, replace or transpose with
// their neighbour (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
