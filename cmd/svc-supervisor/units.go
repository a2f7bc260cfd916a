package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/patience"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// hostUnits are systemd's units, with what their programs logged.
type hostUnits struct{ *unit.Bus }

// journalTime is how long reading a few lines of the journal may take.
const journalTime = 3 * time.Second

// LastLine returns the last line that a service logged before it ended, in one printable line. Where systemd starts it again or
// has done so, the lines of the new process do not count. It is "" if there is none of the last 10 minutes, or if the journal cannot be read.
func (u hostUnits) LastLine(ctx context.Context, name string) string {
	details, err := u.Show(ctx, name)
	if err != nil {
		return ""
	}
	ctx, cancel := patience.WithTimeout(ctx, journalTime)
	defer cancel()
	command := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=json",
		"--output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID", "--reverse", "--lines=50", "--since=-10min", "_SYSTEMD_UNIT="+name)
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	output, err := command.Output()
	if err != nil {
		return ""
	}
	startsAgain := !details.FailedForGood() && details.SubState != "auto-restart"
	return lastMessage(output, func(invocation string) bool { return !startsAgain || invocation != details.Invocation })
}

// lastMessage returns the first message in journalctl's JSON, which begins with the latest one, that is of one of the invocations.
func lastMessage(journal []byte, of func(invocation string) bool) string {
	for line := range bytes.Lines(journal) {
		var entry struct {
			Message    json.RawMessage `json:"MESSAGE"`
			Invocation string          `json:"_SYSTEMD_INVOCATION_ID"`
		}
		if json.Unmarshal(line, &entry) != nil || !of(entry.Invocation) {
			continue
		}
		var message string
		if json.Unmarshal(entry.Message, &message) != nil {
			continue // a message that is not text is a list of numbers
		}
		if message = strings.TrimSpace(oneCell(message)); message != "" {
			return message
		}
	}
	return ""
}
