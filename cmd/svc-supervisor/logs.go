package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// supervisorUnit is the unit whose lines logs shows if they are about the container.
const supervisorUnit = "svc-supervisor.service"

func logsCommand() *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "show the log of a container: its daemons, systemd about its units, and the supervisor about it",
		ArgsUsage: "NAME",
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
	newest, err := journal(c.Context, "--lines=1")
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
	options := []string{"--follow", "--lines=all"}
	for _, e := range newest {
		options = append(options, "--after-cursor="+e.Cursor)
	}
	return readJournal(c.Context, append(options, l.matches()...), func(e *logEntry) error {
		if shown[e.Cursor] || !l.selects(e) {
			return nil
		}
		return l.print(c.App.Writer, e)
	})
}

// unitsInJournal returns the units of a container that have entries in the journal, and always the unit that every
// plugin may use.
func unitsInJournal(ctx context.Context, name spec.Name) ([]string, error) {
	command := journalctl(ctx, "--quiet", "--field=_SYSTEMD_UNIT")
	output, err := command.Output()
	if err := journalError(command, err); err != nil {
		return nil, err
	}
	units := []string{name.Unit()}
	for unit := range strings.Lines(string(output)) {
		if unit = strings.TrimSpace(unit); name.OwnsUnit(unit) {
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
func (l *containerLog) selects(e *logEntry) bool {
	return e.Unit != supervisorUnit || l.about.MatchString(quotedValue.ReplaceAllString(string(e.Message), `""`))
}

// last returns the last entries about the container, the oldest first. journalctl finds those of the units by its
// index. It must read those of the supervisor one after the other, but none that is older than the others.
func (l *containerLog) last(ctx context.Context, lines int) ([]*logEntry, error) {
	if lines == 0 {
		return nil, nil
	}
	limit := "--lines=" + strconv.Itoa(lines)
	entries, err := journal(ctx, append([]string{"--reverse", limit}, l.unitMatches()...)...)
	if err != nil {
		return nil, err
	}
	options := []string{
		"--reverse", limit, "--case-sensitive", "--grep=" + l.about.String(), "_SYSTEMD_UNIT=" + supervisorUnit,
	}
	if len(entries) == lines {
		options = append(options, "--since=@"+strconv.FormatInt(entries[lines-1].time().Unix(), 10))
	}
	supervisors, err := journal(ctx, options...)
	if err != nil {
		return nil, err
	}
	for _, e := range supervisors {
		if l.selects(e) {
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b *logEntry) int { return b.time().Compare(a.time()) })
	entries = entries[:min(lines, len(entries))]
	slices.Reverse(entries)
	return entries, nil
}

// logEntry is an entry of the journal with the fields that logs shows.
type logEntry struct {
	entry
	Realtime journalText `json:"__REALTIME_TIMESTAMP"` // in microseconds
	Unit     journalText `json:"_SYSTEMD_UNIT"`
	Program  journalText `json:"_COMM"`
}

// time returns the time at which journald received the entry.
func (e *logEntry) time() time.Time {
	microseconds, err := strconv.ParseInt(string(e.Realtime), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(microseconds)
}

// print prints an entry in one line: the time, the program and the message. The name of the program is the kernel's,
// because a daemon could call itself svc-supervisor.
func (l *containerLog) print(w io.Writer, e *logEntry) error {
	_, err := fmt.Fprintf(w, "%s %s: %s\n", e.time().Format("2006-01-02 15:04:05.000"),
		orDash(oneCell(string(e.Program))), e.text())
	return err
}

// journal returns the entries that journalctl prints, in its order.
func journal(ctx context.Context, arguments ...string) (entries []*logEntry, err error) {
	err = readJournal(ctx, arguments, func(e *logEntry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// readJournal calls do for each entry that journalctl prints, until do returns an error or ctx is cancelled.
func readJournal(ctx context.Context, arguments []string, do func(*logEntry) error) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	command := journalctl(reading, slices.Concat([]string{
		"--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE,_SYSTEMD_UNIT,_COMM",
	}, arguments)...)
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return journalError(command, err)
	}
	input := bufio.NewReader(stdout)
	var failed error
	for failed == nil {
		line, err := input.ReadBytes('\n')
		if err != nil {
			break // journalctl has ended
		}
		e := new(logEntry)
		if failed = json.Unmarshal(line, e); failed == nil {
			failed = do(e)
		}
	}
	if failed != nil {
		stop()
	}
	err = command.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed != nil:
		return failed
	}
	return journalError(command, err)
}

// journalctl returns a command that the signals of a terminal do not reach.
func journalctl(ctx context.Context, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "journalctl", arguments...)
	command.Env = journalEnvironment
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Stderr = new(strings.Builder)
	return command
}

// journalError returns the error of journalctl with its message. With --grep journalctl exits with 1 and without a
// message if no entry matches, which is no error.
func journalError(command *exec.Cmd, err error) error {
	message := strings.TrimSpace(fmt.Sprint(command.Stderr))
	var exit *exec.ExitError
	switch {
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == 1 && message == "":
		return nil
	case message == "":
		return fmt.Errorf("read the journal: %w", err)
	}
	return fmt.Errorf("read the journal: %w: %s", err, oneCell(message))
}
