package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name:  "ps",
		Usage: "list this host's containers; without a supervisor, what the records and systemd tell",
		Flags: []cli.Flag{outputFlag, runDirFlag, stateDirFlag},
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err := errors.Join(err, noArguments(c)); err != nil {
				return err
			}
			view := new(api.Containers)
			err = api.Get(c.Context, filepath.Join(c.String(runDirFlag.Name), "api.sock"), "containers", view)
			if errors.Is(err, api.ErrNotRunning) {
				fmt.Fprintf(c.App.ErrWriter, "%v: this is what the records and systemd tell\n", api.ErrNotRunning)
				view.Containers, err = withoutSupervisor(c.Context, c.String(stateDirFlag.Name))
			}
			if err != nil {
				return fmt.Errorf("ps: %w", err)
			}
			if asJSON {
				return printJSON(c.App.Writer, view)
			}
			if view.Host != nil && view.Host.Unread != "" {
				fmt.Fprintf(c.App.ErrWriter, "host unknown, nothing is changed: %s\n", oneCell(view.Host.Unread))
			}
			return printRows(c.App.Writer, view, time.Now())
		},
	}
}

// withoutSupervisor reads the records, and asks systemd for their units.
func withoutSupervisor(ctx context.Context, stateDir string) ([]reconcile.Row, error) {
	entries, err := statedir.ReadAll(stateDir)
	if err != nil {
		return nil, err
	}
	bus := unit.Open()
	defer bus.Close()
	units, unitsErr := bus.List(ctx, "svc-*.service")
	rows := []reconcile.Row{}
	for _, entry := range entries {
		row := reconcile.Row{Name: entry.Name, Type: entry.ServiceType, Status: "UNKNOWN"}
		if r := entry.Record; r != nil {
			row.Version, row.AddedAt, row.Units = r.Executable.Version, r.AddedAt, r.Units()
			row.PortID, row.ContainerID = r.Container.PortID, r.Container.ContainerID
			row.Status, row.Reason = statusOf(r, units, unitsErr)
		} else {
			row.Reason = entry.Err.Error()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func statusOf(r *statedir.Record, units []unit.Unit, unitsErr error) (status, reason string) {
	if r.Phase != statedir.Added && r.Phase != statedir.Changing {
		return "HELD", "record " + string(r.Phase)
	}
	if unitsErr != nil {
		return "UNKNOWN", unitsErr.Error()
	}
	for _, name := range r.Units() {
		i := slices.IndexFunc(units, func(u unit.Unit) bool { return u.Name == name })
		if i < 0 {
			return "UNKNOWN", name + " is gone"
		}
		if !units[i].Running() {
			return "UNKNOWN", name + " is " + units[i].State()
		}
	}
	return "RUNNING", ""
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

func printRows(w io.Writer, view *api.Containers, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tTYPE\tVERSION\tSTATUS\tUNIT\tAGE\tUP\tREASON")
	for _, row := range view.Containers {
		up, all := row.Up()
		connections := "-"
		if row.Health != nil {
			connections = fmt.Sprintf("%d/%d", up, all)
		}
		reason := row.Reason
		if reason == "" && row.Health != nil {
			reason = row.Health.Message
		}
		fmt.Fprintln(table, strings.Join([]string{
			orDash(string(row.Name)), orDash(string(row.Type)), orDash(row.Version), row.Status,
			orDash(strings.Join(row.Units, ",")), age(row.AddedAt, now), connections, oneCell(reason),
		}, "\t"))
	}
	return table.Flush()
}

// oneCell keeps a text of an executable's or of the NSDB's from breaking the table, or the terminal.
func oneCell(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age is how long a container has run, in its two largest units.
func age(since *time.Time, now time.Time) string {
	if since == nil {
		return "-"
	}
	switch d := now.Sub(*since).Truncate(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}
