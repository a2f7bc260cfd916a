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
	matches := []string{"_SYSTEMD_UNIT=" + name}
	if !details.FailedForGood() && details.SubState != "auto-restart" {
		failed := lastEntry(ctx, 1, func(e entry) bool { return e.ID != "" }, "UNIT="+name, "MESSAGE_ID="+unitFailed)
		if failed.ID == "" {
			return ""
		}
		matches = append(matches, "_SYSTEMD_INVOCATION_ID="+failed.ID)
	}
	return lastEntry(ctx, 50, func(e entry) bool { return e.text() != "" }, matches...).text()
}

// entry is an entry of the journal. In a message of systemd about a unit, ID is the invocation id of that unit.
type entry struct {
	Message json.RawMessage `json:"MESSAGE"`
	ID      string          `json:"INVOCATION_ID"`
}

// text returns the message as one printable line.
func (e entry) text() string {
	var message string
	if json.Unmarshal(e.Message, &message) != nil {
		return "" // journalctl prints a message that is not text as a list of numbers
	}
	return strings.TrimSpace(oneCell(message))
}

// lastEntry returns the latest journal entry that accept accepts, among the last n entries that have all matches, or
// the zero entry.
func lastEntry(ctx context.Context, n int, accept func(entry) bool, matches ...string) entry {
	arguments := append([]string{
		"--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,INVOCATION_ID", "--reverse",
		"--lines=" + strconv.Itoa(n), "--since=-10min",
	}, matches...)
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
