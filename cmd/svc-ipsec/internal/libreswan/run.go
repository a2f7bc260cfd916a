package libreswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
	"github.com/svc-supervisor/svc-supervisor/internal/patience"
)

// outputLimit is how much of a program's output is kept: the status of some thousand conns.
const outputLimit = 8 << 20

// notRunning is what whack exits with when nobody is at the socket (RC_WHACK_PROBLEM in 4.10 and 5.4); numbers below 20
// are whack's own, the others are pluto's answers.
const notRunning = 33

// ErrNotRunning says that no daemon is at the socket: it ended, and systemd is about to start it again, or has given it up.
var ErrNotRunning = errors.New("the daemon does not run")

// ErrNoAnswer says that a program ran to its own limit: whack, of a daemon that does not answer.
var ErrNoAnswer = errors.New("no answer")

// run runs a program and returns its standard output. The error has its exit code and its error message.
func run(ctx context.Context, limit time.Duration, program string, args ...string) (string, error) {
	return Place{}.run(ctx, limit, program, args...)
}

// run does the same with the user id of the place and no supplementary groups, in its mount view and network namespace.
func (p Place) run(parent context.Context, limit time.Duration, program string, args ...string) (string, error) {
	ctx, cancel := patience.WithTimeout(parent, limit)
	defer cancel()
	cmd := p.command(exec.CommandContext(ctx, program, args...))
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := p.within(cmd.Run)
	if ctx.Err() != nil && parent.Err() == nil {
		return "", fmt.Errorf("%s: %w: %w", filepath.Base(program), ErrNoAnswer, context.Cause(ctx))
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: no answer: %w", filepath.Base(program), context.Cause(ctx))
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

// Control runs whack with these options for an operator, without a time limit. whack has the user id of the daemon and prints
// what the daemon answers, so it gets pipes in the place of the operator's terminal: who has a terminal open can type
// commands into it, and who writes to one can control it.
func (d *Daemon) Control(options []string) error {
	cmd := d.Place.command(exec.Command(d.Tools.Whack, append([]string{"--ctlsocket", d.socket()}, options...)...))
	cmd.Stdout, cmd.Stderr = printable{os.Stdout}, printable{os.Stderr}
	return d.Place.within(cmd.Run)
}

// printable writes text without control characters: everything but printable ASCII, tabs and ends of lines becomes "?".
type printable struct{ to io.Writer }

func (w printable) Write(p []byte) (int, error) {
	text := bytes.Clone(p)
	for i, c := range text {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			text[i] = '?'
		}
	}
	return w.to.Write(text)
}

// beyondDaemon is a capability that the daemon does not have, and that is of no use in the mount view. The kernel lets no process
// read or write the memory of another one that has more capabilities. Otherwise a daemon that has no user namespace of its own
// could put its code into whack, which has the same user id and none of the unit's system call filters.
const beyondDaemon = unix.CAP_SYS_CHROOT

// command gives a program a fixed environment, the place's user id, and a session of its own: so it has no controlling terminal, and
// its process group is its own, so that whatever it starts dies with it.
func (p Place) command(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if p.User != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.User, Gid: p.User}
		cmd.SysProcAttr.AmbientCaps = []uintptr{beyondDaemon}
	}
	return cmd
}

// within calls a function on a thread that is in the view and the network namespace.
func (p Place) within(do func() error) error {
	if p.View == "" {
		return do()
	}
	return ownthread.Do(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_FS), enter(p.Namespace, unix.CLONE_NEWNET), enter(p.View, unix.CLONE_NEWNS)); err != nil {
			return err
		}
		return do()
	})
}

func enter(path string, kind int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Setns(fd, kind); err != nil {
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	return nil
}

// isNotRunning says whether a failed whack found nobody.
func isNotRunning(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == notRunning
}

// exited reports whether a failed program exited or crashed. Only then can its input be the cause; SIGKILL comes from outside
// (a time limit, the kernel without memory).
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

// bounded keeps the first bytes that are written and drops the rest. The buffer is not embedded: io.Copy would call its ReadFrom and
// never call Write.
type bounded struct{ kept bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := outputLimit - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *bounded) String() string { return b.kept.String() }
