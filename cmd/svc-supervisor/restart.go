package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

const (
	// remadeWithin covers a DEL and an ADD at their default deadlines, and the back-off between them.
	remadeWithin = 90 * time.Second
	remadePause  = 100 * time.Millisecond
)

func restartCommand() *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Usage:     "start the daemons of a container anew, through systemd: its tunnels are down meanwhile",
		ArgsUsage: "NAME",
		Flags:     []cli.Flag{stateDirFlag, runDirFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &spec.Fault{Key: "restart", Value: fmt.Sprint(c.NArg(), " arguments"), Allowed: "one: the name of a container"}
			}
			name, err := spec.ParseName("restart", c.Args().First())
			if err != nil {
				return err
			}
			if err := restart(c, name); err != nil {
				return fmt.Errorf("restart %s: %w", name, err)
			}
			return nil
		},
	}
}

// restart restarts the units that the container's record names. It takes part in no decision: systemd has a job for each
// unit, and as long as it is at work the supervisor waits.
//
// A unit that is restarted keeps the properties and the namespace that it was started with. Where that namespace is not as
// the container's plugin asks for it, the units are only stopped, and the supervisor makes the container anew.
func restart(c *cli.Context, name spec.Name) error {
	stateDir := c.String(stateDirFlag.Name)
	record, err := restartable(stateDir, name)
	if err != nil {
		return err
	}
	remake, err := needsRemake(c.Context, filepath.Join(c.String(runDirFlag.Name), "api.sock"), record.Container)
	if err != nil {
		return err
	}
	bus := unit.Open()
	defer bus.Close()
	act := bus.Restart
	if remake {
		act = bus.Stop
	}
	units := record.Units()
	var faults error
	for i, unit := range units {
		if err := act(c.Context, unit); err != nil {
			faults, units[i] = errors.Join(faults, err), ""
		}
	}
	if remake && faults == nil {
		if units, err = remade(c.Context, stateDir, record); err != nil {
			return err
		}
	}
	for _, unit := range slices.DeleteFunc(units, func(unit string) bool { return unit == "" }) {
		fmt.Fprintf(c.App.Writer, "%s runs anew\n", unit)
	}
	return faults
}

// restartable returns the record of a container that has units and is neither being made nor being removed.
func restartable(stateDir string, name spec.Name) (*statedir.Record, error) {
	record, err := recordOf(stateDir, name)
	switch {
	case err != nil:
		return nil, err
	case record == nil:
		return nil, errors.New("no container of that name is recorded; svc-supervisor ps lists them")
	case !runs(record):
		return nil, fmt.Errorf("it is being made or removed: its record says %s", record.Phase)
	case len(record.Units()) == 0:
		return nil, errors.New("it has no units: nothing runs")
	}
	return record, nil
}

func runs(record *statedir.Record) bool {
	return record.Phase == statedir.Added || record.Phase == statedir.Changing
}

// recordOf reads the record of a name, without the lock of the state directory. It is nil if there is none, or only one of
// phase `deleted`.
func recordOf(stateDir string, name spec.Name) (*statedir.Record, error) {
	entries, err := statedir.ReadAll(stateDir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		switch {
		case entry.Name != name || entry.Record != nil && entry.Record.Phase == statedir.Deleted:
		case entry.Record == nil:
			return nil, entry.Err
		default:
			return entry.Record, nil
		}
	}
	return nil, nil
}

// needsRemake reports that the plugin of a container asks for a network namespace that is owned by a user namespace, and that
// the container has another one: an earlier version made it, or the host had no user namespaces. It is an error if the supervisor could not make it anew now.
// While no supervisor runs, the answer is no.
func needsRemake(ctx context.Context, socket string, container spec.Container) (bool, error) {
	var plugins api.Plugins
	err := api.Get(ctx, socket, "plugins", &plugins)
	if errors.Is(err, api.ErrNotRunning) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(plugins.Executables, func(e api.Executable) bool {
		return e.Selected && e.Type == string(container.ServiceType) && e.UserNamespace
	})
	if i < 0 {
		return false, nil
	}
	owned, err := inUserNamespace(container.InterfaceName)
	if owned || err != nil {
		return false, err
	}
	if reason := plugins.Executables[i].Unready; reason != "" {
		return false, fmt.Errorf("it cannot be made anew now: %s: %s", plugins.Executables[i].Path, reason)
	}
	return true, settled(ctx, socket, container.InterfaceName)
}

// inUserNamespace reports whether the network namespace of a container is owned by a user namespace of its own.
func inUserNamespace(name spec.Name) (bool, error) {
	namespace, err := os.Open(netns.Directory.Path(name))
	if err != nil {
		return false, err
	}
	defer namespace.Close()
	_, own, err := netns.UserOf(namespace)
	return !own, err
}

// settled returns an error unless the supervisor shows a container as RUNNING: one whose binding or host is unknown would stay
// stopped.
func settled(ctx context.Context, socket string, name spec.Name) error {
	var view api.Containers
	if err := api.Get(ctx, socket, "containers", &view); err != nil {
		return err
	}
	for _, row := range view.Containers {
		if row.Name == name && row.Status == "RUNNING" {
			return nil
		}
		if row.Name == name {
			return fmt.Errorf("it cannot be made anew now: it is %s: %s", row.Status, row.Reason)
		}
	}
	return errors.New("it cannot be made anew now: the supervisor does not know it yet")
}

// remade waits until the supervisor has made a container anew, and returns its units.
func remade(ctx context.Context, stateDir string, former *statedir.Record) ([]string, error) {
	for deadline := time.Now().Add(remadeWithin); ; {
		record, err := recordOf(stateDir, former.Container.InterfaceName)
		if err == nil && record != nil && runs(record) && !sameTime(record.AddedAt, former.AddedAt) {
			return record.Units(), nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("its units were stopped, and it was not made anew within %s; svc-supervisor ps shows why", remadeWithin)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(remadePause):
		}
	}
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}
