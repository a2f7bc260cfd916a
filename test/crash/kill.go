package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// atTheDoor has the executables of these jobs watched, acts, and waits until each is held or over.
func (h *harness) atTheDoor(jobs []*job) error {
	var waiting sync.WaitGroup
	for _, j := range jobs {
		if err := j.begin(); err != nil {
			return err
		}
		verb := map[string]string{"EDIT": "ADD", "FRESH": "ADD"}[j.action]
		if verb == "" {
			verb = j.action
		}
		door := filepath.Join(lab.Doors, j.slot.wanted().ID+"."+verb)
		_ = os.Remove(door + ".pid")
		t, err := newTrace(door + ".trace")
		if err != nil {
			return err
		}
		if err := os.WriteFile(door, []byte(strings.Join(straceArguments(j.call, t.path), " ")), 0o600); err != nil {
			return err
		}
		if j.action == "FRESH" {
			if err := lab.Forget(); err != nil {
				return err
			}
		}
		waiting.Go(func() {
			defer t.close()
			deadline := time.Now().Add(hitWithin)
			held, err := t.await(j.of(j.slot.name), j.nth, func() bool {
				text, err := os.ReadFile(door + ".pid")
				pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
				return err == nil && dead(pid) || time.Now().After(deadline)
			})
			if err != nil && !errors.Is(err, errMissed) {
				fmt.Println(err)
			}
			_ = os.Remove(door)
			if held != nil {
				j.hold(held)
			}
		})
	}
	for _, j := range jobs {
		if err := j.slot.want(actions[j.action].to); err != nil {
			return err
		}
	}
	waiting.Wait()
	return nil
}

// executable is the process that a job holds.
func (j *job) executable() int {
	paths, _ := filepath.Glob(filepath.Join(lab.Doors, j.slot.wanted().ID+".*.pid"))
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && !dead(pid) {
			return pid
		}
	}
	return j.held.group()
}

// killExecutables kills those that are held; with the supervisor, it kills that one, and the others die because it did.
func (h *harness) killExecutables(jobs []*job, both bool) error {
	held := slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j.held == nil })
	if both && len(held) > 0 {
		if err := h.Kill(); err != nil {
			return err
		}
	}
	var fault error
	for _, j := range held {
		pid := j.executable()
		if both {
			// The kernel has killed it, and it waits in its exit for strace, which is stopped.
			j.held.release()
			if err := lab.Within(2*time.Second, func() error {
				if !dead(pid) {
					return fmt.Errorf("svc-ipsec (process %d) outlives its supervisor: %s", pid, j)
				}
				return nil
			}); err != nil {
				fault = errors.Join(fault, err)
			}
		}
		j.held.kill(pid)
	}
	return fault
}

// superviseOne holds the supervisor right before a call, and kills it.
func (h *harness) superviseOne(j *job) error {
	if err := j.begin(); err != nil {
		return err
	}
	t, err := newTrace(filepath.Join(lab.Doors, "supervisor.trace"))
	if err != nil {
		return err
	}
	defer t.close()
	strace, err := attach(h.PID(), straceArguments(j.call, t.path))
	if err != nil {
		return err
	}
	if err := j.slot.want(actions[j.action].to); err != nil {
		return err
	}
	deadline := time.Now().Add(hitWithin / 2)
	held, err := t.await(j.of(j.slot.name), j.nth, func() bool { return time.Now().After(deadline) })
	if held != nil {
		j.hold(held)
		held.kill(h.PID())
		_ = strace.Wait()
		return h.Ended(10 * time.Second)
	}
	detach(strace)
	if errors.Is(err, errMissed) {
		err = nil
	}
	return err
}
