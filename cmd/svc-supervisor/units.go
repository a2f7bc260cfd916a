package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
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
	printable := func(e entry) bool { return e.text() != "" }
	if details.FailedForGood() || details.SubState == "auto-restart" {
		return lastEntry(ctx, printable, recent, "_SYSTEMD_UNIT="+name).text()
	}
	isFailure := func(e entry) bool { return e.UnitInvocation != "" }
	failed := lastEntry(ctx, isFailure, recent, "UNIT="+name, "MESSAGE_ID="+unitFailed)
	if failed.UnitInvocation == "" {
		return ""
	}
	// journald knows no invocation id of a message if it reads the message after its sender has ended. Under load this
	// happens to the last messages of a process.
	beforeFailure := func(e entry) bool {
		return printable(e) && (e.Invocation == "" || e.Invocation == failed.UnitInvocation)
	}
	if last := lastEntry(ctx, beforeFailure, "--cursor="+failed.Cursor, "_SYSTEMD_UNIT="+name); last.text() != "" {
		return last.text()
	}
	// journald may have read the message of systemd first.
	return lastEntry(ctx, printable, recent, "_SYSTEMD_INVOCATION_ID="+failed.UnitInvocation).text()
}

// entry is an entry of the journal.
type entry struct {
	Cursor         string          `json:"__CURSOR"`
	Message        json.RawMessage `json:"MESSAGE"`
	Invocation     string          `json:"_SYSTEMD_INVOCATION_ID"` // of the unit that logged the message
	UnitInvocation string          `json:"INVOCATION_ID"`          // of the unit that systemd's message is about
}

// text returns the message as one printable line.
func (e entry) text() string {
	var message string
	if json.Unmarshal(e.Message, &message) != nil {
		return "" // journalctl prints a message that is not text as a list of numbers
	}
	return strings.TrimSpace(oneCell(message))
}

// entryLimit is the number of entries that one call of journalctl reads.
const entryLimit = 50

// lastEntry returns the latest journal entry that accept accepts, among the last entryLimit entries that journalctl
// selects, or the zero entry. selection consists of options and matches of journalctl.
func lastEntry(ctx context.Context, accept func(entry) bool, selection ...string) entry {
	arguments := append([]string{
		"--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,INVOCATION_ID,_SYSTEMD_INVOCATION_ID",
		"--reverse", "--lines=" + strconv.Itoa(entryLimit),
	}, selection...)
	command := exec.CommandContext(ctx, "journalctl", arguments...)
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	output, err := command.Output()
	if err != nil {
		return entry{}
	}
	return firstEntry(output, accept)
}

// firstEntry returns the first entry in journalctl's JSON that accept accepts, or the zero entry.
func firstEntry(journal []byte, accept func(entry) bool) entry {
	for line := range bytes.Lines(journal) {
		var e entry
		if json.Unmarshal(line, &e) == nil && accept(e) {
			return e
		}
	}
	return entry{}
}
