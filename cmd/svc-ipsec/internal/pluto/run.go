package pluto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// outputLimit is how much of a program's output is kept: the status of some thousand conns.
const outputLimit = 8 << 20

// notRunning is what whack exits with when nobody is at the socket (RC_WHACK_PROBLEM in 4.10 and 5.4); numbers below 20
// are whack's own, the others are pluto's answers.
const notRunning = 33

// ErrNotRunning says that no daemon is at the socket: it ended, and systemd is about to start it again, or has given it up.
var ErrNotRunning = errors.New("the daemon does not run")

// run runs a program to its end and returns what it printed. The error tells its exit code and last words.
func run(ctx context.Context, limit time.Duration, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	// A group of its own, so that whatever it started dies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: no answer: %w", filepath.Base(program), ctx.Err())
	}
	if err != nil {
		words := oneLine(stderr.String())
		if words == "" {
			words = oneLine(stdout.String())
		}
		return stdout.String(), fmt.Errorf("%s: %w: %s", filepath.Base(program), err, words)
	}
	return stdout.String(), nil
}

// isNotRunning says whether a failed whack found nobody.
func isNotRunning(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == notRunning
}

// exited says whether a failed program ended by itself, be it that it crashed: only then does its failure tell something of
// what it was given. SIGKILL is somebody else's.
func exited(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return exit.Exited() || ok && status.Signaled() && status.Signal() != syscall.SIGKILL
}

// answered says whether a failed whack brought an answer of pluto's.
func answered(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() >= 20 && exit.ExitCode() != notRunning
}

// bounded keeps the first bytes that are written and swallows the rest.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := outputLimit - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
