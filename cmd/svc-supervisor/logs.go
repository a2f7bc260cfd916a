package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/journal"
	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// supervisorUnit is the unit whose lines logs shows if they are about the container.
const supervisorUnit = "svc-supervisor.service"

func logsCommand() *cli.Command {
	return &cli.Command{
		Name:         "logs",
		Usage:        "show the log of a container: its daemons, systemd about its units, and the supervisor about it",
		ArgsUsage:    "NAME",
		BashComplete: completeNames,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "also show new lines, until interrupted"},
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Value: 50, Usage: "show the last `N` lines"},
		},
		Action: func(c *cli.Context) error {
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			lines := c.Int("lines")
			if lines < 0 {
				return &spec.Fault{Key: "--lines", Value: strconv.Itoa(lines), Allowed: "0 or more"}
			}
			err = showLog(c, name, lines, c.Bool("follow"))
			if err != nil && c.Context.Err() == nil {
				return fmt.Errorf("logs %s: %w", name, err)
			}
			return nil
		},
	}
}

// showLog prints the last lines about a container, and with follow all new ones until the context of c is cancelled.
func showLog(c *cli.Context, name spec.Name, lines int, follow bool) error {
	units, err := unitsInJournal(c.Context, name)
	if err != nil {
		return err
	}
	l := newContainerLog(name, units)
	// New entries are those after the newest one that exists now. Entries that arrive meanwhile are read twice.
	newest, err := journal.Entries(c.Context, "--lines=1")
	if err != nil {
		return err
	}
	last, err := l.last(c.Context, lines)
	if err != nil {
		return err
	}
	if len(last) == 0 && lines > 0 {
		fmt.Fprintf(c.App.ErrWriter, "the journal has no lines about %s, or this user cannot read them\n", name)
	}
	shown := map[string]bool{}
	for _, e := range last {
		shown[e.Cursor] = true
		if err := l.print(c.App.Writer, e); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	options := []string{"--all", "--follow", "--lines=all"}
	for _, e := range newest {
		options = append(options, "--after-cursor="+e.Cursor)
	}
	return journal.Each(c.Context, append(options, l.matches()...), func(e *journal.Entry) error {
		if shown[e.Cursor] || !l.selects(e) {
			return nil
		}
		return l.print(c.App.Writer, e)
	})
}

// unitsInJournal returns the units of a container that have entries in the journal, and always the unit that every
// plugin may use.
func unitsInJournal(ctx context.Context, name spec.Name) ([]string, error) {
	all, err := journal.Units(ctx)
	if err != nil {
		return nil, err
	}
	units := []string{name.Unit()}
	for _, unit := range all {
		if name.OwnsUnit(unit) {
			units = append(units, unit)
		}
	}
	slices.Sort(units)
	return slices.Compact(units), nil
}

// containerLog selects the entries of the journal that are about one container.
type containerLog struct {
	units []string
	about *regexp.Regexp // matches the supervisor's lines about the container
}

func newContainerLog(name spec.Name, units []string) *containerLog {
	about := regexp.MustCompile(`(^| )(container|interfaceName)=` + regexp.QuoteMeta(string(name)) + `( |$)`)
	return &containerLog{units, about}
}

// unitMatches returns the arguments with which journalctl selects the entries of the container's units, and those of
// systemd about them. Only trusted fields decide, because every user can write to the journal.
func (l *containerLog) unitMatches() []string {
	var matches []string
	for _, unit := range l.units {
		if len(matches) > 0 {
			matches = append(matches, "+")
		}
		matches = append(matches, "_SYSTEMD_UNIT="+unit, "+", "_PID=1", "UNIT="+unit)
	}
	return matches
}

// matches returns the arguments with which journalctl selects the entries of the container's units and all entries of
// the supervisor.
func (l *containerLog) matches() []string {
	return append(l.unitMatches(), "+", "_SYSTEMD_UNIT="+supervisorUnit)
}

// quotedValue matches a quoted value in a line of the supervisor. It may contain text of a plugin.
var quotedValue = lazyregexp.New(`"(?:\\.|[^"\\])*"`)

// selects reports whether an entry that matches is about the container.
func (l *containerLog) selects(e *journal.Entry) bool {
	return e.Unit != supervisorUnit || l.about.MatchString(quotedValue.ReplaceAllString(string(e.Message), `""`))
}

// last returns the last entries about the container, the oldest first. journalctl finds those of the units by its
// index. It must read those of the supervisor one after the other, but none that is older than the others.
func (l *containerLog) last(ctx context.Context, lines int) ([]*journal.Entry, error) {
	if lines == 0 {
		return nil, nil
	}
	limit := "--lines=" + strconv.Itoa(lines)
	entries, err := journal.Entries(ctx, append([]string{"--all", "--reverse", limit}, l.unitMatches()...)...)
	if err != nil {
		return nil, err
	}
	options := []string{
		"--all", "--reverse", limit,
		"--case-sensitive", "--grep=" + l.about.String(), "_SYSTEMD_UNIT=" + supervisorUnit,
	}
	if len(entries) == lines {
		options = append(options, "--since=@"+strconv.FormatInt(entries[lines-1].Received().Unix(), 10))
	}
	supervisors, err := journal.Entries(ctx, options...)
	if err != nil {
		return nil, err
	}
	for _, e := range supervisors {
		if l.selects(e) {
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b *journal.Entry) int { return b.Received().Compare(a.Received()) })
	entries = entries[:min(lines, len(entries))]
	slices.Reverse(entries)
	return entries, nil
}

// print prints an entry in one line: the time, the program and the message. The name of the program is the kernel's,
// because a daemon could call itself svc-supervisor.
func (l *containerLog) print(w io.Writer, e *journal.Entry) error {
	_, err := fmt.Fprintf(w, "%s %s: %s\n", e.Received().Format("2006-01-02 15:04:05.000"),
		orDash(oneCell(string(e.Program))), printable(e.Message))
	return err
}
