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
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

const (
	// recreateTimeout covers a DEL and an ADD at their default deadlines, and the back-off between them.
	recreateTimeout      = 90 * time.Second
	recreatePollInterval = 100 * time.Millisecond
)

func restartCommand() *cli.Command {
	return &cli.Command{
		Name:         "restart",
		Usage:        "restart the daemons of a container through systemd; its tunnels are down meanwhile",
		ArgsUsage:    "NAME",
		BashComplete: completeNames,
		Flags:        []cli.Flag{stateDirFlag, runDirFlag},
		Action: func(c *cli.Context) error {
			name, err := nameArgument(c)
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

// restart restarts the units that the record of the container names. It needs no coordination with the supervisor:
// systemd has a job for each unit during the restart, and the supervisor takes no action on a unit that has a job.
//
// A restarted unit keeps the properties and the network namespace that it was started with. If that namespace is not of
// the kind that the container's plugin asks for, restart only stops the units. The supervisor then notices that they
// are gone and makes the container again by DEL and ADD.
func restart(c *cli.Context, name spec.Name) error {
	stateDir := c.String(stateDirFlag.Name)
	record, err := restartable(stateDir, name)
	if err != nil {
		return err
	}
	recreate, err := needsRecreate(c.Context, filepath.Join(c.String(runDirFlag.Name), "api.sock"), record.Container)
	if err != nil {
		return err
	}
	bus := unit.Open()
	defer bus.Close()
	act := bus.Restart
	if recreate {
		act = bus.Stop
	}
	units := record.Units()
	var errs error
	for i, unit := range units {
		if err := act(c.Context, unit); err != nil {
			errs, units[i] = errors.Join(errs, err), ""
		}
	}
	if recreate {
		if errs != nil {
			return errs // nothing was restarted
		}
		if units, err = awaitRecreated(c.Context, stateDir, record); err != nil {
			return err
		}
	}
	for _, unit := range slices.DeleteFunc(units, func(unit string) bool { return unit == "" }) {
		fmt.Fprintf(c.App.Writer, "%s restarted\n", unit)
	}
	return errs
}

// restartable returns the record of a container. It returns an error unless the container has units and its record is
// in phase `added` or `changing`.
func restartable(stateDir string, name spec.Name) (*statedir.Record, error) {
	record, err := recordOf(stateDir, name)
	switch {
	case err != nil:
		return nil, err
	case record == nil:
		return nil, errors.New("no container of that name is recorded; svc-supervisor ps lists them")
	case !runs(record):
		return nil, fmt.Errorf("the container is being made or removed: its record is in phase %s", record.Phase)
	case len(record.Units()) == 0:
		return nil, errors.New("the container has no units to restart")
	}
	return record, nil
}

func runs(record *statedir.Record) bool {
	return record.Phase == statedir.Added || record.Phase == statedir.Changing
}

// recordOf reads the record of a name without the lock of the state directory. It returns nil if there is no record, or
// only one of phase `deleted`.
func recordOf(stateDir string, name spec.Name) (*statedir.Record, error) {
	entries, err := statedir.ReadAll(stateDir)
	if err != nil {
		return nil, err
	}
	return recordIn(entries, name)
}

// recordIn returns the record of a name among entries, as recordOf does.
func recordIn(entries []statedir.Entry, name spec.Name) (*statedir.Record, error) {
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

// needsRecreate reports whether the plugin of the container asks for a network namespace that is owned by a user
// namespace, while the container's is not: an earlier version made it, or the host had no user namespaces. It returns
// an error if the supervisor could not make the container again now. It returns false if no supervisor runs.
func needsRecreate(ctx context.Context, socket string, container spec.Container) (bool, error) {
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
	return true, checkRunning(ctx, socket, container.InterfaceName)
}

// inUserNamespace reports whether the network namespace of a container is owned by another user namespace than that of
// this process.
func inUserNamespace(name spec.Name) (bool, error) {
	namespace, err := os.Open(netns.Directory.Path(name))
	if err != nil {
		return false, err
	}
	defer namespace.Close()
	_, own, err := netns.UserOf(namespace)
	return !own, err
}

// checkRunning returns an error unless the supervisor shows the container as RUNNING. If its binding or the host is
// unknown, the supervisor takes no step, and the container would stay stopped.
func checkRunning(ctx context.Context, socket string, name spec.Name) error {
	var view api.Containers
	if err := api.Get(ctx, socket, "containers", &view); err != nil {
		return err
	}
	for _, row := range view.Containers {
		if row.Name == name && row.Status == reconcile.RowRunning {
			return nil
		}
		if row.Name == name {
			return fmt.Errorf("it cannot be made anew now: it is %s: %s", row.Status, row.Reason)
		}
	}
	return errors.New("it cannot be made anew now: the supervisor does not know it yet")
}

// awaitRecreated waits until the supervisor has made the container again, and returns its units. The time of ADD in the
// record differs then from that in the former record.
func awaitRecreated(ctx context.Context, stateDir string, former *statedir.Record) ([]string, error) {
	for deadline := time.Now().Add(recreateTimeout); ; {
		record, err := recordOf(stateDir, former.Container.InterfaceName)
		if err == nil && record != nil && runs(record) && !sameTime(record.AddedAt, former.AddedAt) {
			return record.Units(), nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("its units were stopped, and the supervisor did not make it again within %s;"+
				" svc-supervisor ps shows the reason", recreateTimeout)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(recreatePollInterval):
		}
	}
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}
