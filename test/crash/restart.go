package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// killLauncher kills a daemon, so that systemd starts it again. It then holds the launcher of the new daemon right
// before the call of the job's point, and kills it.
func (h *harness) killLauncher(j *job) error {
	if err := j.begin(); err != nil {
		return err
	}
	daemon, err := lab.MainPID(j.slot.name)
	if err != nil {
		return err
	}
	breakpoint := filepath.Join(lab.Breakpoints, j.slot.name+".launch")
	_ = os.Remove(breakpoint + ".pid")
	if err := os.WriteFile(breakpoint, nil, 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(breakpoint) }()
	if err := unix.Kill(daemon, unix.SIGKILL); err != nil {
		return err
	}
	var launcher int
	err = lab.Within(hitTimeout, func() error {
		text, err := os.ReadFile(breakpoint + ".pid")
		if err != nil {
			return err
		}
		launcher, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	if err != nil {
		return fmt.Errorf("systemd does not start the daemon of %s again: %w", j.slot.name, err)
	}
	t, err := newTrace(filepath.Join(lab.Breakpoints, "launcher.trace"))
	if err != nil {
		return err
	}
	defer t.close()
	// nsenter executes the launcher, and the launcher executes nsenter, setpriv and pluto in turn, so strace must not
	// detach at execve (as with straceArguments).
	strace, err := attach(launcher, inject(j.call, t.path))
	if err != nil {
		return err
	}
	_ = os.Remove(breakpoint)
	deadline := time.Now().Add(hitTimeout / 2)
	held, err := t.await(j.of(j.slot.name), j.nth, func() bool { return dead(launcher) || time.Now().After(deadline) })
	if held != nil {
		j.recordKill(held)
		held.kill(launcher)
		_ = strace.Wait()
		return nil
	}
	detach(strace)
	if errors.Is(err, errMissed) {
		err = nil
	}
	return err
}
