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

// launchOne kills a daemon, holds the launcher with which systemd starts it again right before a call, and kills that.
func (h *harness) launchOne(j *job) error {
	if err := j.begin(); err != nil {
		return err
	}
	daemon, err := lab.MainPID(j.slot.name)
	if err != nil {
		return err
	}
	door := filepath.Join(lab.Doors, j.slot.name+".launch")
	_ = os.Remove(door + ".pid")
	if err := os.WriteFile(door, nil, 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(door) }()
	if err := unix.Kill(daemon, unix.SIGKILL); err != nil {
		return err
	}
	var launcher int
	err = lab.Within(hitWithin, func() error {
		text, err := os.ReadFile(door + ".pid")
		if err != nil {
			return err
		}
		launcher, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	if err != nil {
		return fmt.Errorf("systemd does not start the daemon of %s again: %w", j.slot.name, err)
	}
	t, err := newTrace(filepath.Join(lab.Doors, "launcher.trace"))
	if err != nil {
		return err
	}
	defer t.close()
	// The launcher is executed by nsenter, and executes nsenter, setpriv and pluto: all of them are followed.
	strace, err := attach(launcher, inject(j.call, t.path))
	if err != nil {
		return err
	}
	_ = os.Remove(door)
	deadline := time.Now().Add(hitWithin / 2)
	held, err := t.await(j.of(j.slot.name), j.nth, func() bool { return dead(launcher) || time.Now().After(deadline) })
	if held != nil {
		j.hold(held)
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
