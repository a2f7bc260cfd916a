package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/patience"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// hostUnits accesses the units of systemd and their journal.
type hostUnits struct{ *unit.Bus }

// journalTime limits the time that one call of LastLine spends on reading the journal.
const journalTime = 3 * time.Second

// unitFailed is systemd's MESSAGE_ID of "Failed with result" (systemd.journal-fields(7), sd-messages.h).
const unitFailed = "d9b373ed55a64feb8242e02dbe79a49c"

// LastLine returns the last message that a service logged before it ended, as one printable line. If systemd has
// restarted the service, the messages of the new process are ignored, however many there are. LastLine returns "" if
// there is no message of the last 10 minutes, or if the journal cannot be read.
func (u hostUnits) LastLine(ctx context.Context, name string) string {
	ctx, cancel := patience.WithTimeout(ctx, journalTime)
	defer cancel()
	details, err := u.Show(ctx, name)
	if err != nil {
		return ""
	}
	const recent = "--since=-10min"
	if details.FailedForGood() || details.SubState == "auto-restart" {
		return lastText(readEntries(ctx, recent, "_SYSTEMD_UNIT="+name))
	}
	failures := readEntries(ctx, recent, "UNIT="+name, "MESSAGE_ID="+unitFailed)
	if len(failures) == 0 {
		return ""
	}
	// Under load, journald reads the last lines of a process after it has ended. They then have no invocation id, or
	// that of the next process. So they are found by their position: after the failure before, and before this one.
	lines := readEntries(ctx, "--cursor="+failures[0].Cursor, "_SYSTEMD_UNIT="+name)
	if len(failures) > 1 {
		lines = slices.DeleteFunc(lines, func(e entry) bool { return e.monotonic() <= failures[1].monotonic() })
	}
	if text := lastText(lines); text != "" {
		return text
	}
	// journald may have read the message of systemd first.
	return lastText(readEntries(ctx, recent, "_SYSTEMD_INVOCATION_ID="+string(failures[0].Invocation)))
}

// entry is an entry of the journal.
type entry struct {
	Cursor string `json:"__CURSOR"`
	// Monotonic is when journald received the entry, in microseconds since boot.
	Monotonic  journalText `json:"__MONOTONIC_TIMESTAMP"`
	Message    journalText `json:"MESSAGE"`
	Invocation journalText `json:"INVOCATION_ID"` // of the unit that a message of systemd is about
}

// journalText is a field in journalctl's JSON: a string; a list of numbers, which are bytes, if the field has control
// characters; null if it is long and --all is not given; or a list of these if the entry has several fields of this
// name, of which the first counts.
type journalText string

func (t *journalText) UnmarshalJSON(content []byte) error {
	var text string
	var numbers []uint16
	var list []journalText
	switch {
	case json.Unmarshal(content, &text) == nil: // also null
		*t = journalText(text)
	case json.Unmarshal(content, &numbers) == nil:
		var octets []byte
		for _, n := range numbers {
			octets = append(octets, byte(n))
		}
		*t = journalText(octets)
	case json.Unmarshal(content, &list) == nil && len(list) > 0:
		*t = list[0]
	default:
		return errors.New("field of the journal: neither text nor bytes")
	}
	return nil
}

func (e entry) monotonic() int64 {
	at, _ := strconv.ParseInt(string(e.Monotonic), 10, 64)
	return at
}

// text returns the message as one printable line.
func (e entry) text() string {
	return strings.TrimSpace(oneCell(string(e.Message)))
}

// lastText returns the first message that is not empty. The latest entry comes first.
func lastText(entries []entry) string {
	for _, e := range entries {
		if text := e.text(); text != "" {
			return text
		}
	}
	return ""
}

// entryLimit is the number of entries that one call of journalctl reads.
const entryLimit = 50

// journalEnvironment is the environment of journalctl.
var journalEnvironment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}

// readEntries returns the last entries of the journal that journalctl selects, the latest first, and none if the
// journal cannot be read. selection consists of options and matches of journalctl.
func readEntries(ctx context.Context, selection ...string) []entry {
	arguments := append([]string{
		"--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,INVOCATION_ID", "--reverse",
		"--lines=" + strconv.Itoa(entryLimit),
	}, selection...)
	command := exec.CommandContext(ctx, "journalctl", arguments...)
	command.Env = journalEnvironment
	output, err := command.Output()
	if err != nil {
		return nil
	}
	return parseEntries(output)
}

// parseEntries parses journalctl's JSON, one entry in each line.
func parseEntries(journal []byte) []entry {
	var entries []entry
	for line := range bytes.Lines(journal) {
		var e entry
		if json.Unmarshal(line, &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries
}
