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

// holdExecutables sets a breakpoint for the executable of each job, starts the actions, and waits until each executable
// is held or has ended.
func (h *harness) holdExecutables(jobs []*job) error {
	var waiting sync.WaitGroup
	for _, j := range jobs {
		if err := j.begin(); err != nil {
			return err
		}
		verb := map[string]string{"EDIT": "ADD", "FRESH": "ADD"}[j.action]
		if verb == "" {
			verb = j.action
		}
		breakpoint := filepath.Join(lab.Breakpoints, j.slot.desired().ID+"."+verb)
		_ = os.Remove(breakpoint + ".pid")
		t, err := newTrace(breakpoint + ".trace")
		if err != nil {
			return err
		}
		arguments := strings.Join(straceArguments(j.call, t.path), " ")
		if err := os.WriteFile(breakpoint, []byte(arguments), 0o600); err != nil {
			return err
		}
		if j.action == "FRESH" {
			if err := lab.RemoveShared(); err != nil {
				return err
			}
		}
		waiting.Go(func() {
			defer t.close()
			deadline := time.Now().Add(hitTimeout)
			held, err := t.await(j.of(j.slot.name), j.nth, func() bool {
				text, err := os.ReadFile(breakpoint + ".pid")
				pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
				return err == nil && dead(pid) || time.Now().After(deadline)
			})
			if err != nil && !errors.Is(err, errMissed) {
				fmt.Println(err)
			}
			_ = os.Remove(breakpoint)
			if held != nil {
				j.recordKill(held)
			}
		})
	}
	for _, j := range jobs {
		if err := j.slot.setDesired(actions[j.action].to); err != nil {
			return err
		}
	}
	waiting.Wait()
	return nil
}

// executable returns the process id of the executable that a job holds.
func (j *job) executable() int {
	paths, _ := filepath.Glob(filepath.Join(lab.Breakpoints, j.slot.desired().ID+".*.pid"))
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && !dead(pid) {
			return pid
		}
	}
	return j.held.group()
}

// killExecutables kills the executables that the jobs hold. If both is set, it kills the supervisor, and checks that
// the kernel then kills the executables.
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
			// The kernel has killed it, but it cannot exit before strace, which is stopped, has released it.
			j.held.release()
			if err := lab.Within(2*time.Second, func() error {
				if !dead(pid) {
					return fmt.Errorf("svc-ipsec (process %d) still runs after the supervisor was killed: %s", pid, j)
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

// killSupervisor holds the supervisor right before the call of the job's point, and kills it.
func (h *harness) killSupervisor(j *job) error {
	if err := j.begin(); err != nil {
		return err
	}
	t, err := newTrace(filepath.Join(lab.Breakpoints, "supervisor.trace"))
	if err != nil {
		return err
	}
	defer t.close()
	strace, err := attach(h.PID(), straceArguments(j.call, t.path))
	if err != nil {
		return err
	}
	if err := j.slot.setDesired(actions[j.action].to); err != nil {
		return err
	}
	deadline := time.Now().Add(hitTimeout / 2)
	held, err := t.await(j.of(j.slot.name), j.nth, func() bool { return time.Now().After(deadline) })
	if held != nil {
		j.recordKill(held)
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
