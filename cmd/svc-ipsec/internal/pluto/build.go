package pluto

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// Build tells of a daemon that was started from another file than is installed now: after an upgrade of the package.
type Build struct {
	Running, Installed string // versions, "?" where one cannot be found out
}

// Compatible says whether the installed tools may talk to the daemon. What they say to each other has another layout in
// every version, and a daemon that is told something it does not understand may end (libreswan issue 1709).
func (b *Build) Compatible() bool { return b == nil || b.Running == b.Installed && b.Running != "?" }

// Outdated compares the file of the daemon that runs with the installed one. nil: it is the same, or no daemon runs.
// ErrNotRunning: one is on its way.
func (d *Daemon) Outdated(ctx context.Context) (*Build, error) {
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil || u.MainPID == 0 {
		return nil, err
	}
	exe := fmt.Sprintf("/proc/%d/exe", u.MainPID)
	running, err := os.Stat(exe)
	if err != nil {
		return nil, nil // it has just ended, or this program may not look: not known
	}
	if installed, err := os.Stat(d.Tools.Pluto); err == nil && os.SameFile(running, installed) {
		return nil, nil
	}
	b := &Build{version(ctx, exe), version(ctx, d.Tools.Pluto)}
	if b.Running == "?" && !u.Running() {
		return nil, ErrNotRunning // systemd is about to start it
	}
	return b, nil
}

// version asks a file of pluto for its version: "Libreswan 4.10 …".
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
