package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/reconcile"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:         "status",
		Usage:        "show everything about one container; without a supervisor, from its record and systemd",
		ArgsUsage:    "NAME",
		BashComplete: completeNames,
		Flags:        []cli.Flag{outputFlag, runDirFlag, stateDirFlag},
		Action: func(c *cli.Context) error {
			encode, err := outputEncoder(c)
			if err != nil {
				return err
			}
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			s, err := statusOfContainer(c, name)
			if err != nil {
				return fmt.Errorf("status %s: %w", name, err)
			}
			if encode != nil {
				return encode(c.App.Writer, s)
			}
			return s.print(c.App.Writer, time.Now())
		},
	}
}

// containerStatus is what `status` shows of one container.
type containerStatus struct {
	Container reconcile.Row  `json:"container"`
	Record    *recordSummary `json:"record,omitempty"` // nil: there is no readable record
	// RecordError is why the record cannot be read.
	RecordError string        `json:"recordError,omitempty"`
	Units       []unitSummary `json:"units,omitempty"`
	Namespace   string        `json:"namespace,omitempty"` // "" if there is none

	host *reconcile.HostRow // nil if no supervisor answered
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// recordSummary is a record without the configuration, which contains secrets.
type recordSummary struct {
	Phase      statedir.Phase      `json:"phase"`
	Container  spec.Container      `json:"container"`
	Executable statedir.Executable `json:"executable"`
	Port       *spec.Port          `json:"port,omitempty"`
}

// unitSummary is a unit as systemd shows it.
type unitSummary struct {
	Name     string     `json:"name"`
	State    string     `json:"state"`
	PID      int        `json:"pid,omitempty"`
	Since    *time.Time `json:"since,omitempty"` // since when the unit is active
	Restarts int        `json:"restarts,omitempty"`
	Exit     string     `json:"exit,omitempty"` // how it ended, if it has failed
	Error    string     `json:"error,omitempty"`
}

// statusOfContainer gathers the status of a container from the supervisor, the record and systemd.
func statusOfContainer(c *cli.Context, name spec.Name) (*containerStatus, error) {
	view, err := containers(c, name)
	if err != nil {
		return nil, err
	}
	warnOfUnreadHost(c, view)
	row := rowOf(view, name)
	if row == nil {
		return nil, errNoContainer
	}
	s := &containerStatus{Container: *row, host: view.Host}
	record, err := recordOf(c.String(stateDirFlag.Name), name)
	switch {
	case err != nil:
		s.RecordError = err.Error()
	case record != nil:
		s.Record = &recordSummary{Phase: record.Phase, Container: record.Container, Executable: record.Executable}
		if record.Conf != nil {
			s.Record.Port = record.Conf.Port
		}
	}
	if path := netns.Directory.Path(name); exists(path) {
		s.Namespace = path
	}
	bus := unit.Open()
	defer bus.Close()
	for _, unit := range s.Container.Units {
		s.Units = append(s.Units, summarize(c.Context, bus, unit))
	}
	return s, nil
}

func summarize(ctx context.Context, bus *unit.Bus, name string) unitSummary {
	details, err := bus.Show(ctx, name)
	if err != nil {
		return unitSummary{Name: name, State: "unknown", Error: err.Error()}
	}
	summary := unitSummary{Name: name, State: details.State(), PID: details.MainPID, Restarts: details.Restarts}
	if details.Gone() {
		summary.State = "gone"
	}
	if details.ActiveFor > 0 {
		since := time.Now().Add(-details.ActiveFor).UTC().Truncate(time.Second)
		summary.Since = &since
	}
	if details.Exit.Failed() {
		summary.Exit = details.Exit.String()
	}
	return summary
}

// print prints the status for people.
func (s *containerStatus) print(w io.Writer, now time.Time) error {
	row := s.Container
	up, all := row.Up()
	var text strings.Builder
	line := func(key, format string, values ...any) {
		fmt.Fprintf(&text, "%-14s%s\n", key, oneCell(fmt.Sprintf(format, values...)))
	}
	line("name", "%s", row.Name)
	line("status", "%s", row.Status)
	if reason := withNumbers(reason(row), s.host); reason != "" {
		line("reason", "%s", reason)
	}
	if note := note(row); note != "" {
		line("note", "%s", note)
	}
	line("type", "%s", strings.TrimSpace(orDash(string(row.Type))+" "+row.Version))
	line("age", "%s, restarts: %d", age(row.AddedAt, now), row.Restarts)
	line("port", "%s", orDash(string(row.PortID)))
	line("container", "%s", orDash(string(row.ContainerID)))
	if record := s.Record; record != nil {
		if record.Container.GroupID != "" {
			line("group", "%s", record.Container.GroupID)
		}
		line("configuration", "%s", record.Container.ConfigurationID)
		line("plugin", "%s", record.Executable.Path)
		line("record", "%s", record.Phase)
		if port := record.Port; port != nil {
			line("addresses", "%s", orDash(strings.Join(port.Addresses, ", ")))
			line("bridge", "%s", orDash(port.Bridge))
		}
	}
	if s.RecordError != "" {
		line("record", "%s", s.RecordError)
	}
	line("namespace", "%s", orDash(s.Namespace))
	for _, u := range s.Units {
		line("unit", "%s", u.text(now))
	}
	if row.Health != nil {
		line("connections", "%d of %d up", up, all)
		for _, connection := range row.Health.Connections {
			printConnection(&text, connection, now)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// text describes a unit in one line.
func (u unitSummary) text(now time.Time) string {
	text := u.Name + ": " + u.State
	if u.Since != nil {
		text += " for " + age(u.Since, now)
	}
	if u.PID != 0 {
		text += fmt.Sprintf(", process %d", u.PID)
	}
	if u.Restarts > 0 {
		text += fmt.Sprintf(", restarts: %d", u.Restarts)
	}
	for _, more := range []string{u.Exit, u.Error} {
		if more != "" {
			text += ", " + more
		}
	}
	return text
}

// printConnection prints a connection in one line, and a line for each of its pairs of networks.
func printConnection(w io.Writer, c spec.Connection, now time.Time) {
	text := c.ID
	if c.Name != "" && c.Name != c.ID {
		text = fmt.Sprintf("%s (%s)", c.Name, c.ID)
	}
	text += ": " + string(c.Status)
	if c.Disabled {
		text += " (disabled)"
	}
	if c.Since != nil {
		text += " for " + age(c.Since, now)
	}
	if c.Peer != "" {
		text += ", peer " + c.Peer
	}
	if c.Reason != "" {
		text += ", " + c.Reason
	}
	fmt.Fprintf(w, "  %s\n", oneCell(text))
	for _, pair := range c.Pairs {
		text := fmt.Sprintf("%s to %s: %s", pair.Local, pair.Peer, pair.Status)
		if pair.Status == spec.Active {
			text += fmt.Sprintf(", %d bytes in, %d bytes out", pair.BytesIn, pair.BytesOut)
		}
		if pair.Algorithms != "" {
			text += ", " + pair.Algorithms
		}
		fmt.Fprintf(w, "    %s\n", oneCell(text))
	}
}
