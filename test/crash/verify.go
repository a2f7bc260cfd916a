package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// verify waits until the host has the desired state, and then checks the containers of the jobs and the untouched
// container.
func (h *harness) verify(jobs []*job) {
	if err := h.awaitDesired(); err != nil {
		differences, _ := lab.Compare(h.desired())
		for _, difference := range differences {
			if strings.HasPrefix(difference, "+") {
				h.leaks++
			} else {
				h.lost++
			}
		}
		for _, j := range jobs {
			// The jobs whose names are in the error have failed. If it contains no name, all jobs have failed.
			text := err.Error()
			named := func(o *job) bool { return strings.Contains(text, o.slot.name) }
			if named(j) || !slices.ContainsFunc(jobs, named) {
				h.fail(j, "not settled: "+text)
			}
		}
		h.cleanUp()
		return
	}
	for _, j := range jobs {
		if faults := h.faults(j); len(faults) > 0 {
			h.fail(j, strings.Join(faults, "\n"))
		}
	}
	if pid, err := lab.MainPID(h.untouched.name); err != nil || pid != h.pid {
		h.lost++
		h.fail(jobs[0], fmt.Sprintf("the daemon of the untouched container was restarted: PID %d, was %d", pid, h.pid))
		h.pid = pid
	}
}

func (h *harness) fail(j *job, text string) {
	h.failed[j.point.String()]++
	if j.held == nil {
		text = "(not hit this time) " + text
	} else {
		text += "\nat: " + j.held.line
	}
	fmt.Printf("FAIL %s; %s killed, desired state %s\n%s\n", j, j.kills, j.change.name, indent(text))
	log, _ := exec.Command("sh", "-c", "grep -a "+j.slot.name+" "+lab.Log+" | tail -n 12 | cut -c 1-400").Output()
	fmt.Println(indent("the last lines of the supervisor's log with its name:\n" + strings.TrimSpace(string(log))))
	log, _ = exec.Command("sh", "-c", "tail -n 6 "+lab.Log+" | cut -c 1-400").Output()
	title := fmt.Sprintf("the last lines of the supervisor's log (it runs: %v):\n", h.Alive())
	fmt.Println(indent(title + strings.TrimSpace(string(log))))
}

func indent(text string) string { return "     " + strings.ReplaceAll(text, "\n", "\n     ") }

// cleanUp removes everything that a failed job left, so that it does not affect other jobs.
func (h *harness) cleanUp() {
	if h.Alive() {
		_ = h.Kill()
	}
	for _, s := range h.slots {
		_ = s.setDesired(absent)
		for _, args := range [][]string{
			{"systemctl", "stop", "svc-" + s.name + ".service"},
			{"systemctl", "reset-failed", "svc-" + s.name + ".service"},
			{"ip", "link", "delete", s.name}, {"ip", "netns", "delete", s.name},
			{"rm", "-rf", "/run/svc-ipsec/" + s.name},
			{"sh", "-c", "rm -f $(grep -l :" + s.name + ": /run/svc-user-ids/[0-9]*) /run/svc-user-ids/*:" + s.name},
			{"sh", "-c", "rm -rf /var/lib/svc-supervisor/containers/*" + s.name + ".* " +
				"/run/svc-supervisor/status/containers/*/*c-" + s.name + ".* /run/svc-ipsec/.nss-[0-9]*"},
		} {
			_ = exec.Command(args[0], args[1:]...).Run()
		}
	}
	if err := h.Start(); err != nil {
		fmt.Println(err)
	}
	if err := h.awaitDesired(); err != nil {
		fmt.Println("the clean-up failed:", err)
	}
}
