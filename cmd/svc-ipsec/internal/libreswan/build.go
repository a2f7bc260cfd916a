package libreswan

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Build describes a running daemon whose executable differs from the installed one, because the package was upgraded.
type Build struct {
	Running, Installed string // versions; "?" if unknown
}

// Compatible reports whether the installed tools can be used with the daemon. The protocol of whack differs between
// versions, and a message of another version can crash pluto (libreswan issue 1709). A nil Build is compatible.
func (b *Build) Compatible() bool { return b == nil || b.Running == b.Installed && b.Running != "?" }

// Outdated compares the executable of the running daemon with the installed one. It returns nil if they are the same or
// no daemon runs, and ErrNotRunning while systemd starts the daemon. An attacker who controls the daemon can choose its
// executable, so that file is never executed; the version is read from the journal.
func (d *Daemon) Outdated(ctx context.Context) (*Build, error) {
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil {
		return nil, err
	}
	return d.OutdatedIn(ctx, u)
}

// OutdatedIn is like Outdated, for a caller that has just read the daemon's unit.
func (d *Daemon) OutdatedIn(ctx context.Context, u unit.Details) (*Build, error) {
	if u.MainPID == 0 {
		return nil, nil
	}
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", u.MainPID))
	if err != nil {
		return nil, nil // unknown: the daemon has just ended, or this program lacks the permission
	}
	if installed, err := os.Stat(d.Tools.Pluto); err == nil && os.SameFile(running, installed) {
		return nil, nil
	}
	if !u.Running() { // the launcher, nsenter or setpriv, which has not executed pluto yet
		return nil, ErrNotRunning
	}
	return &Build{Running: d.Journal().startedVersion(ctx, u.Invocation), Installed: version(ctx, d.Tools.Pluto)}, nil
}

// version runs the installed pluto and returns its version, or "?". The output is "Libreswan 4.10 …".
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
