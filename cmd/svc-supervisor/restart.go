package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func restartCommand() *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Usage:     "start the daemons of a container anew, through systemd: its tunnels are down meanwhile",
		ArgsUsage: "NAME",
		Flags:     []cli.Flag{stateDirFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &spec.Fault{Key: "restart", Value: fmt.Sprint(c.NArg(), " arguments"), Allowed: "one: the name of a container"}
			}
			name, err := spec.ParseName("restart", c.Args().First())
			if err != nil {
				return err
			}
			return restart(c, name)
		},
	}
}

// restart restarts the units that the container's record names. It takes part in no decision: systemd has a job for each
// unit, and as long as it is at work the supervisor waits.
func restart(c *cli.Context, name spec.Name) error {
	entries, err := statedir.ReadAll(c.String(stateDirFlag.Name))
	if err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	var units []string
	found := false
	for _, entry := range entries {
		switch {
		case entry.Name != name || entry.Record != nil && entry.Record.Phase == statedir.Deleted:
			continue
		case entry.Record == nil:
			return fmt.Errorf("restart %s: %w", name, entry.Err)
		case entry.Record.Phase != statedir.Added && entry.Record.Phase != statedir.Changing:
			return fmt.Errorf("restart %s: it is being made or removed: its record says %s", name, entry.Record.Phase)
		}
		found, units = true, append(units, entry.Record.Units()...)
	}
	switch {
	case !found:
		return fmt.Errorf("restart %s: no container of that name is recorded; svc-supervisor ps lists them", name)
	case len(units) == 0:
		return fmt.Errorf("restart %s: it has no units: nothing runs", name)
	}
	bus := unit.Open()
	defer bus.Close()
	var faults error
	for _, unit := range units {
		if err := bus.Restart(c.Context, unit); err != nil {
			faults = errors.Join(faults, err)
			continue
		}
		fmt.Fprintf(c.App.Writer, "%s runs anew\n", unit)
	}
	return faults
}
