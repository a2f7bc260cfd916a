package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/journal"
	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
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
	ctx, cancel := busyclock.WithTimeout(ctx, journalTime)
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
		lines = slices.DeleteFunc(lines, func(e *journal.Entry) bool {
			return e.SinceBoot() <= failures[1].SinceBoot()
		})
	}
	if text := lastText(lines); text != "" {
		return text
	}
	// journald may have read the message of systemd first.
	return lastText(readEntries(ctx, recent, "_SYSTEMD_INVOCATION_ID="+string(failures[0].Invocation)))
}

// printable returns a message as one printable line.
func printable(message journal.Text) string { return strings.TrimSpace(oneCell(string(message))) }

// lastText returns the first message that is not empty. The latest entry comes first.
func lastText(entries []*journal.Entry) string {
	for _, e := range entries {
		if text := printable(e.Message); text != "" {
			return text
		}
	}
	return ""
}

// entryLimit is the number of entries that one call of journalctl reads.
const entryLimit = 50

// readEntries returns the last entries of the journal that journalctl selects, the latest first, and none if the
// journal cannot be read. A message that journalctl abbreviates without --all is missing.
func readEntries(ctx context.Context, selection ...string) []*journal.Entry {
	options := []string{"--reverse", "--lines=" + strconv.Itoa(entryLimit)}
	entries, err := journal.Entries(ctx, append(options, selection...)...)
	if err != nil {
		return nil
	}
	return entries
}
