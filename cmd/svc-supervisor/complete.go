package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// completeNames prints what can follow on the command line of a command with the name of a container: its options, if
// the last word begins with "-", and otherwise the names of the recorded containers. Shells call it
// (contrib/completion), so it prints no errors.
func completeNames(c *cli.Context) {
	if last := len(os.Args) - 2; last > 0 && strings.HasPrefix(os.Args[last], "-") {
		cli.DefaultCompleteWithFlags(c.Command)(c)
		return
	}
	dir := c.String(stateDirFlag.Name)
	if dir == "" {
		dir = defaultStateDir
	}
	entries, err := statedir.ReadAll(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		fmt.Fprintln(c.App.Writer, entry.Name)
	}
}
