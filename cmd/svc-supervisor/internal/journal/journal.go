// Package journal reads systemd's journal with journalctl. systemd's own library needs cgo, which the project does not
// use.
package journal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
)

// Entry is an entry of the journal. The fields that begin with an underscore in the journal are trusted: journald sets
// them. Every user can set the others. All can contain control characters.
type Entry struct {
	Cursor     string `json:"__CURSOR"`
	Realtime   Text   `json:"__REALTIME_TIMESTAMP"`  // in microseconds since 1970
	Monotonic  Text   `json:"__MONOTONIC_TIMESTAMP"` // in microseconds since boot
	Unit       Text   `json:"_SYSTEMD_UNIT"`
	Program    Text   `json:"_COMM"`
	Message    Text   `json:"MESSAGE"`
	Invocation Text   `json:"INVOCATION_ID"` // of the unit that a message of systemd is about
}

const fields = "_SYSTEMD_UNIT,_COMM,MESSAGE,INVOCATION_ID"

// Received returns the time at which journald received the entry.
func (e *Entry) Received() time.Time {
	microseconds, err := strconv.ParseInt(string(e.Realtime), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(microseconds)
}

// SinceBoot returns the time from boot until journald received the entry.
func (e *Entry) SinceBoot() time.Duration {
	microseconds, _ := strconv.ParseInt(string(e.Monotonic), 10, 64)
	return time.Duration(microseconds) * time.Microsecond
}

// Text is a field in journalctl's JSON: a string; a list of numbers, which are bytes, if the field has control
// characters; null if it is long and --all is not given; or a list of these if the entry has several fields of this
// name, of which the first counts.
type Text string

func (t *Text) UnmarshalJSON(content []byte) error {
	var plain string
	var numbers []*uint16 // a null is no number
	var list []Text
	switch {
	case json.Unmarshal(content, &plain) == nil: // also null
		*t = Text(plain)
	case json.Unmarshal(content, &numbers) == nil && !slices.Contains(numbers, nil):
		var octets []byte
		for _, n := range numbers {
			octets = append(octets, byte(*n))
		}
		*t = Text(octets)
	case json.Unmarshal(content, &list) == nil && len(list) > 0:
		*t = list[0]
	default:
		return errors.New("field of the journal: neither text nor bytes")
	}
	return nil
}

// Entries returns the entries that journalctl selects with the given options and matches, in its order.
func Entries(ctx context.Context, selection ...string) (entries []*Entry, err error) {
	err = Each(ctx, selection, func(e *Entry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// Each calls do for each entry that journalctl selects, until do returns an error or ctx is cancelled.
func Each(ctx context.Context, selection []string, do func(*Entry) error) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	options := []string{"--quiet", "--no-pager", "--output=json", "--output-fields=" + fields}
	command := journalctl(reading, slices.Concat(options, selection))
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return readError(command, err)
	}
	input := bufio.NewReader(stdout)
	var failed error
	for failed == nil {
		line, err := input.ReadBytes('\n')
		if err != nil {
			break // journalctl has ended
		}
		e := new(Entry)
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
	return readError(command, err)
}

// Units returns the names of all units that have entries in the journal.
func Units(ctx context.Context) ([]string, error) {
	command := journalctl(ctx, []string{"--quiet", "--field=_SYSTEMD_UNIT"})
	output, err := command.Output()
	if err := readError(command, err); err != nil {
		return nil, err
	}
	return strings.Fields(string(output)), nil
}

// environment is the environment of journalctl.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}

// journalctl returns a command that the signals of a terminal do not reach.
func journalctl(ctx context.Context, arguments []string) *exec.Cmd {
	command := exec.CommandContext(ctx, "journalctl", arguments...)
	command.Env = environment
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Stderr = new(strings.Builder)
	return command
}

// readError returns the error of journalctl with its message. With --grep journalctl exits with 1 and without a
// message if no entry matches, which is no error.
func readError(command *exec.Cmd, err error) error {
	message := strings.TrimSpace(fmt.Sprint(command.Stderr))
	var exit *exec.ExitError
	switch {
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == 1 && message == "":
		return nil
	case message == "":
		return fmt.Errorf("read the journal: %w", err)
	}
	return fmt.Errorf("read the journal: %w: %s", err, oneline.Of(message, 200))
}
