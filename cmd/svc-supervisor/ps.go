package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/api"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name:  "ps",
		Usage: "list this host's containers; without a supervisor, from the records and systemd",
		Flags: []cli.Flag{
			outputFlag, runDirFlag, stateDirFlag,
			&cli.BoolFlag{
				Name: "exit-code",
				Usage: "exit with 2 if a container does not run or a connection is down, and with 3 if the host is" +
					" unknown or no supervisor answers",
			},
		},
		Action: func(c *cli.Context) error {
			encode, err := outputEncoder(c)
			if err := errors.Join(err, noArguments(c)); err != nil {
				return err
			}
			view, err := containers(c, "")
			if err != nil {
				return fmt.Errorf("ps: %w", err)
			}
			if encode != nil {
				err = encode(c.App.Writer, view)
			} else {
				warnOfUnreadHost(c, view)
				err = printRows(c.App.Writer, view, time.Now())
			}
			if err != nil || !c.Bool("exit-code") {
				return err
			}
			return findings(view)
		},
	}
}

// containers returns the containers that the supervisor shows. If no supervisor answers, it prints the reason to stderr
// and returns what the records and systemd show; if name is not empty, only of that container.
func containers(c *cli.Context, name spec.Name) (*api.Containers, error) {
	view := new(api.Containers)
	socket := filepath.Join(c.String(runDirFlag.Name), "api.sock")
	err := api.Get(c.Context, socket, "containers", view)
	if reason := whyNoAnswer(err, socket, c.String(stateDirFlag.Name)); reason != "" {
		fmt.Fprintf(c.App.ErrWriter, "%s: showing the records and the state of the units instead\n", reason)
		view = new(api.Containers)
		view.Containers, err = withoutSupervisor(c.Context, c.String(stateDirFlag.Name), name)
	}
	return view, err
}

// warnOfUnreadHost prints to stderr why the host is unknown, if it is.
func warnOfUnreadHost(c *cli.Context, view *api.Containers) {
	if view.Host != nil && view.Host.Unread != "" {
		fmt.Fprintf(c.App.ErrWriter, "host unknown, nothing is changed: %s\n", oneCell(view.Host.Unread))
	}
}

// whyNoAnswer returns the reason why no supervisor answered, given the error of api.Get. It returns "" if the
// supervisor answered, or if err has another cause. The lock of the state directory shows whether a supervisor runs,
// because a running one may have no socket.
func whyNoAnswer(err error, socket, stateDir string) string {
	if !errors.Is(err, api.ErrNotRunning) && !errors.Is(err, api.ErrNoAnswer) {
		return ""
	}
	pid, held, lockErr := statedir.Holder(stateDir)
	who := "the supervisor"
	if pid != 0 {
		who += fmt.Sprintf(" (process %d)", pid)
	}
	switch {
	case errors.Is(err, api.ErrNoAnswer):
		return strings.Replace(err.Error(), "the supervisor", who, 1)
	case held && pid != os.Getpid():
		return fmt.Sprintf("%s runs, and does not listen on %s: it is starting or stopping, or the socket was removed;"+
			" restart the supervisor if the socket stays missing", who, socket)
	case lockErr != nil:
		return fmt.Sprintf("no supervisor listens on %s, and whether one runs is unknown (%v)", socket, lockErr)
	}
	return api.ErrNotRunning.Error()
}

// withoutSupervisor builds the rows of ps from the records and the state of their units in systemd: all, or those with
// a name.
func withoutSupervisor(ctx context.Context, stateDir string, name spec.Name) ([]reconcile.Row, error) {
	entries, err := statedir.ReadAll(stateDir)
	if err != nil {
		return nil, err
	}
	bus := unit.Open()
	defer bus.Close()
	units, unitsErr := bus.List(ctx, "svc-*.service")
	rows := []reconcile.Row{}
	for _, entry := range entries {
		if name != "" && entry.Name != name {
			continue
		}
		row := reconcile.Row{Name: entry.Name, Type: entry.ServiceType, Status: reconcile.RowUnknown}
		if r := entry.Record; r != nil {
			row.Version, row.AddedAt, row.Units = r.Executable.Version, r.AddedAt, r.Units()
			row.PortID, row.ContainerID = r.Container.PortID, r.Container.ContainerID
			row.Status, row.Reason = statusOf(r, units, unitsErr)
			for i, unit := range row.Units {
				if unitsErr != nil {
					break // systemd does not answer; each further call would wait for it
				}
				details, err := bus.Show(ctx, unit)
				if err != nil {
					continue
				}
				row.Restarts += details.Restarts
				if i == 0 && row.AddedAt != nil {
					now := time.Now()
					at := reconcile.AddedAt(*row.AddedAt, reconcile.Age(*row.AddedAt, details, now), now)
					row.AddedAt = &at
				}
			}
		} else {
			row.Reason = entry.Err.Error()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// statusOf derives the status of a container from the phase of its record and from the state of its units.
func statusOf(r *statedir.Record, units []unit.Unit, unitsErr error) (status, reason string) {
	if r.Phase != statedir.Added && r.Phase != statedir.Changing {
		return reconcile.RowHeld, "record " + string(r.Phase)
	}
	if unitsErr != nil {
		return reconcile.RowUnknown, unitsErr.Error()
	}
	for _, name := range r.Units() {
		i := slices.IndexFunc(units, func(u unit.Unit) bool { return u.Name == name })
		if i < 0 {
			return reconcile.RowUnknown, name + " is gone"
		}
		if !units[i].Running() {
			return reconcile.RowUnknown, name + " is " + units[i].State()
		}
	}
	return reconcile.RowRunning, ""
}

// Exit statuses of ps --exit-code.
const (
	exitDegraded = 2 // a container does not run, or a connection is down
	exitUnknown  = 3 // the host is unknown, or no supervisor answers
)

// findings returns an error with one of the exit statuses, or nil if all containers run and all connections are up.
func findings(view *api.Containers) error {
	switch {
	case view.Host == nil:
		return cli.Exit("ps: no supervisor answers", exitUnknown)
	case view.Host.Unread != "":
		return cli.Exit("ps: the host is unknown", exitUnknown)
	}
	notRunning, down := 0, 0
	for _, row := range view.Containers {
		if row.Status != reconcile.RowRunning {
			notRunning++
		}
		if row.Health != nil {
			down += count(row.Health.Connections, isDown)
		}
	}
	if notRunning+down == 0 {
		return nil
	}
	text := fmt.Sprintf("ps: containers that do not run: %d, connections that are down: %d", notRunning, down)
	return cli.Exit(text, exitDegraded)
}

func printRows(w io.Writer, view *api.Containers, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	heading := []string{"NAME", "TYPE", "VERSION", "STATUS", "UNIT", "AGE", "UP", "RESTARTS", "REASON"}
	withNotes := slices.ContainsFunc(view.Containers, func(row reconcile.Row) bool { return note(row) != "" })
	if withNotes {
		heading = append(heading, "NOTE")
	}
	fmt.Fprintln(table, strings.Join(heading, "\t"))
	for _, row := range view.Containers {
		up, all := row.Up()
		connections := "-"
		if row.Health != nil {
			connections = fmt.Sprintf("%d/%d", up, all)
		}
		cells := []string{
			orDash(string(row.Name)), orDash(string(row.Type)), orDash(row.Version), row.Status,
			orDash(strings.Join(row.Units, ",")), age(row.AddedAt, now), connections, restarts(row),
			oneCell(withNumbers(reason(row), view.Host)),
		}
		if withNotes {
			cells = append(cells, oneCell(note(row)))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// reason returns the text of the column REASON. It is the reason that the supervisor gives, if there is one. Otherwise
// it is about the first connection that is down with a reason, then the first one that is down without a reason, then
// the first one that is up with a reason. Connections that their configuration disables are ignored.
func reason(row reconcile.Row) string {
	if row.Reason != "" || row.Health == nil {
		return row.Reason
	}
	downWithReason := func(c spec.Connection) bool { return isDown(c) && c.Reason != "" }
	upWithReason := func(c spec.Connection) bool { return c.Status == spec.Active && c.Reason != "" }
	for _, which := range []func(spec.Connection) bool{downWithReason, isDown, upWithReason} {
		i := slices.IndexFunc(row.Health.Connections, which)
		if i < 0 {
			continue
		}
		c := row.Health.Connections[i]
		text := "connection " + cmp.Or(c.Name, c.ID)
		if c.Status == spec.Down {
			text += " is down"
		}
		if c.Reason != "" {
			text += ": " + c.Reason
		}
		if others := count(row.Health.Connections, isDown) - 1; others > 0 {
			text += fmt.Sprintf(" (and %d more)", others)
		}
		return text
	}
	return ""
}

// isDown reports whether a connection is down that should be up.
func isDown(c spec.Connection) bool { return c.Status == spec.Down && !c.Disabled }

// withNumbers appends the count and the limit of the host to the reasons LIMIT_EXCEEDED and WEIGHT_ZERO. The reason
// itself does not change, because tools compare it.
func withNumbers(reason string, host *reconcile.HostRow) string {
	switch {
	case host == nil:
	case reason == spec.LimitExceeded && host.Limit != nil:
		return fmt.Sprintf("%s: the host has %d containers, and its containerLimit is %d", reason, host.Count,
			*host.Limit)
	case reason == spec.WeightZero:
		return reason + ": the host's containerWeight is 0"
	}
	return reason
}

func count(connections []spec.Connection, which func(spec.Connection) bool) int {
	n := 0
	for _, c := range connections {
		if which(c) {
			n++
		}
	}
	return n
}

// note returns the health message that the plugin reports for the container as a whole.
func note(row reconcile.Row) string {
	if row.Health == nil {
		return ""
	}
	return row.Health.Message
}

// restarts returns the number of restarts: those of the daemons by systemd, and those of the container by the
// supervisor.
func restarts(row reconcile.Row) string {
	if len(row.Units) == 0 && row.Restarts == 0 {
		return "-"
	}
	return strconv.Itoa(row.Restarts)
}

// oneCell replaces unprintable characters by spaces. A text of an executable or of the NSDB could otherwise break the
// table or send control sequences to the terminal.
func oneCell(s string) string { return oneline.Replace(s, ' ') }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age formats the time since a container was added, in its two largest units.
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
