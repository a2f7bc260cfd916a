package libreswan

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Build tells of a daemon that was started from another file than is installed now: after an upgrade of the package.
type Build struct {
	Running, Installed string // versions, "?" where one cannot be found out
}

// Compatible reports whether the installed tools may talk to the daemon. The protocol of whack differs between versions, and a
// message of another version can crash pluto (libreswan issue 1709).
func (b *Build) Compatible() bool { return b == nil || b.Running == b.Installed && b.Running != "?" }

// Outdated compares the file of the running daemon with the installed one. It returns nil if they are the same or no daemon
// runs, and ErrNotRunning while systemd starts the daemon. An attacker who controls the daemon can choose its executable, so that
// file is never executed; the version is read from the journal.
func (d *Daemon) Outdated(ctx context.Context) (*Build, error) {
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil {
		return nil, err
	}
	return d.OutdatedIn(ctx, u)
}

// OutdatedIn is Outdated for a daemon whose unit was shown a moment ago.
func (d *Daemon) OutdatedIn(ctx context.Context, u unit.Details) (*Build, error) {
	if u.MainPID == 0 {
		return nil, nil
	}
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", u.MainPID))
	if err != nil {
		return nil, nil // it has just ended, or this program may not look: not known
	}
	if installed, err := os.Stat(d.Tools.Pluto); err == nil && os.SameFile(running, installed) {
		return nil, nil
	}
	if !u.Running() { // the launcher, nsenter or setpriv, which has not executed pluto yet
		return nil, ErrNotRunning
	}
	return &Build{Running: d.startedVersion(ctx, u.Invocation), Installed: version(ctx, d.Tools.Pluto)}, nil
}

var startLine = lazyregexp.New(`^Starting Pluto \(Libreswan Version v?([0-9A-Za-z._~+-]{1,40}) `)

// startedVersion is the version in the newest "Starting Pluto" line of this start of the unit, "?" if the journal has none any
// more. A captured daemon can log such a line; the version decides only whether the verbs talk to this daemon.
func (d *Daemon) startedVersion(ctx context.Context, invocation string) string {
	journalctl := find("journalctl", programs)
	if journalctl == "" || invocation == "" {
		return "?"
	}
	output, err := run(ctx, 5*time.Second, journalctl, "--quiet", "--no-pager", "--output=cat", "--lines=1",
		"--grep=^Starting Pluto", "_SYSTEMD_INVOCATION_ID="+invocation)
	if err != nil {
		return "?"
	}
	if m := startLine.FindStringSubmatch(output); m != nil {
		return m[1]
	}
	return "?"
}

// version asks the installed pluto for its version: "Libreswan 4.10 …".
func version(ctx context.Context, pluto string) string {
	output, err := run(ctx, 2*time.Second, pluto, "--version")
	if err != nil {
		return "?"
	}
	fields := strings.Fields(output)
	for i, word := range fields[:max(0, len(fields)-1)] {
		if word == "Libreswan" {
			return strings.TrimPrefix(fields[i+1], "v")
		}
	}
	return "?"
}
