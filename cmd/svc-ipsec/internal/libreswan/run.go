package libreswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// outputLimit is how many bytes of a program's output are kept. It is enough for the status of several thousand conns.
const outputLimit = 8 << 20

// notRunning is the exit code of whack if no daemon listens on the socket (RC_WHACK_PROBLEM in 4.10 and 5.4). Codes
// below 20 are from whack itself, the others are pluto's answers.
const notRunning = 33

// ErrNotRunning means that no daemon listens on the socket: it has ended, and systemd is about to restart it or has
// given up.
var ErrNotRunning = errors.New("the daemon does not run")

// ErrNoAnswer means that a program reached its own time limit, for example whack if the daemon does not answer.
var ErrNoAnswer = errors.New("no answer")

// Isolation is where the daemon runs and with which privileges. Programs that talk to the daemon run in the same way,
// so a daemon that an attacker controls cannot make them reach anything that it cannot reach itself. The zero Isolation
// is that of a container that version 0.1.0 created, whose daemon runs as root.
type Isolation struct {
	User      uint32 // user and group id
	View      string // path of the mount view (package mountview)
	Namespace string // path of the network namespace
}

// run runs a program and returns its standard output. The error contains the exit code and the error message.
func run(ctx context.Context, limit time.Duration, program string, args ...string) (string, error) {
	return Isolation{}.run(ctx, limit, program, args...)
}

// run runs a program with the daemon's user ID and without supplementary groups, in its mount view and network
// namespace.
func (p Isolation) run(parent context.Context, limit time.Duration, program string, args ...string) (string, error) {
	ctx, cancel := busyclock.WithTimeout(parent, limit)
	defer cancel()
	cmd := p.command(exec.CommandContext(ctx, program, args...))
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout, stderr limitedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := p.inNamespaces(cmd.Run)
	if err != nil && ctx.Err() != nil && parent.Err() == nil {
		return "", fmt.Errorf("%s: %w: %w", filepath.Base(program), ErrNoAnswer, context.Cause(ctx))
	}
	if err != nil && ctx.Err() != nil {
		return "", fmt.Errorf("%s: no answer: %w", filepath.Base(program), context.Cause(ctx))
	}
	if err != nil {
		message := oneLine(stderr.String())
		if message == "" {
			message = oneLine(stdout.String())
		}
		return stdout.String(), fmt.Errorf("%s: %w: %s", filepath.Base(program), err, message)
	}
	return stdout.String(), nil
}

// ptraceBarrier is a capability that the daemon does not have and that is useless in the mount view. The kernel lets
// no process access the memory of a process that has more capabilities. Without it, a daemon that has no user namespace
// of its own could inject code into whack, which has the same user ID but not the system call filters of the unit.
const ptraceBarrier = unix.CAP_SYS_CHROOT

// command sets a fixed environment, the daemon's user ID, and a new session. The program then has no controlling
// terminal, and a process group of its own, so that its children can be killed with it.
func (p Isolation) command(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if p.User != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.User, Gid: p.User}
		cmd.SysProcAttr.AmbientCaps = []uintptr{ptraceBarrier}
	}
	return cmd
}

// inNamespaces calls a function on a thread in the mount view and the network namespace.
func (p Isolation) inNamespaces(do func() error) error {
	if p.View == "" {
		return do()
	}
	return ownthread.Do(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_FS),
			enter(p.Namespace, unix.CLONE_NEWNET), enter(p.View, unix.CLONE_NEWNS)); err != nil {
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

// isNotRunning reports whether a failed whack found no daemon.
func isNotRunning(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == notRunning
}

// exited reports whether a failed program exited or crashed. Only then can its input be the cause, because SIGKILL is
// sent from outside (a time limit, or the kernel when it is out of memory).
func exited(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return exit.Exited() || ok && status.Signaled() && status.Signal() != syscall.SIGKILL
}

// plutoAnswered reports whether a failed whack received an answer from pluto.
func plutoAnswered(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() >= 20 && exit.ExitCode() != notRunning
}

// limitedBuffer keeps the first bytes that are written and discards the rest. The buffer is not embedded, because
// io.Copy would call its ReadFrom and never Write.
type limitedBuffer struct{ kept bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if left := outputLimit - b.kept.Len(); left > 0 {
		b.kept.Write(p[:min(left, len(p))])
	}
	return len(p), nil
}

func (b *limitedBuffer) String() string { return b.kept.String() }
