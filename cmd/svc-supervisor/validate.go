package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/file"
)

func validateCommand() *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "check a directory of NSDB objects: every fault with its file, its key, and what is allowed",
		ArgsUsage: "DIR",
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return &spec.Fault{Key: "validate argument", Value: fmt.Sprint(c.Args().Slice()), Allowed: "one directory"}
			}
			findings, err := file.Validate(c.Args().First())
			if err != nil {
				return fmt.Errorf("validate: %w", err)
			}
			exposures, err := file.Exposures(c.Args().First())
			if err != nil {
				return fmt.Errorf("validate: %w", err)
			}
			for _, exposure := range exposures {
				fmt.Fprintf(c.App.ErrWriter, "svc-supervisor: warning: %s\n", exposure)
			}
			for _, finding := range findings {
				fmt.Fprintln(c.App.Writer, finding)
			}
			if len(findings) > 0 {
				return fmt.Errorf("validate %s: %d faults", c.Args().First(), len(findings))
			}
			return nil
		},
	}
}
