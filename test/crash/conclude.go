package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// conclude waits for the settled end and judges it.
func (h *harness) conclude(jobs []*job) {
	if err := h.settle(); err != nil {
		differences, _ := lab.Compare(h.wanted())
		for _, difference := range differences {
			if strings.HasPrefix(difference, "+") {
				h.leaks++
			} else {
				h.lost++
			}
		}
		for _, j := range jobs {
			// Of several, those whose name is in the difference; all, where none is.
			if text := err.Error(); strings.Contains(text, j.slot.name) || !slices.ContainsFunc(jobs, func(o *job) bool { return strings.Contains(text, o.slot.name) }) {
				h.fail(j, "not settled: "+text)
			}
		}
		h.scrub()
		return
	}
	for _, j := range jobs {
		if faults := h.judge(j); len(faults) > 0 {
			h.fail(j, strings.Join(faults, "\n"))
		}
	}
	if pid, err := lab.MainPID(h.bystander.name); err != nil || pid != h.pid {
		h.lost++
		h.fail(jobs[0], fmt.Sprintf("a container that nothing happened to: PID %d, was %d", pid, h.pid))
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
	fmt.Printf("FAIL %s; %s killed, the NSDB %s\n%s\n", j, j.kills, j.mind.name, indent(text))
	log, _ := exec.Command("sh", "-c", "grep -a "+j.slot.name+" "+lab.Log+" | tail -n 12 | cut -c 1-400").Output()
	fmt.Println(indent("the supervisor's last words on it:\n" + strings.TrimSpace(string(log))))
	log, _ = exec.Command("sh", "-c", "tail -n 6 "+lab.Log+" | cut -c 1-400").Output()
	fmt.Println(indent(fmt.Sprintf("its last words at all (it lives: %v):\n", h.Alive()) + strings.TrimSpace(string(log))))
}

func indent(text string) string { return "     " + strings.ReplaceAll(text, "\n", "\n     ") }

// scrub removes by force what a failure left, so that the other points are judged by themselves.
func (h *harness) scrub() {
	if h.Alive() {
		_ = h.Kill()
	}
	for _, s := range h.slots {
		_ = s.want(absent)
		for _, args := range [][]string{
			{"systemctl", "stop", "svc-" + s.name + ".service"}, {"systemctl", "reset-failed", "svc-" + s.name + ".service"},
			{"ip", "link", "delete", s.name}, {"ip", "netns", "delete", s.name}, {"rm", "-rf", "/run/svc-ipsec/" + s.name},
			{"sh", "-c", "rm -f $(grep -l :" + s.name + ": /run/svc-user-ids/[0-9]*) /run/svc-user-ids/*:" + s.name},
			{"sh", "-c", "rm -rf /var/lib/svc-supervisor/containers/*" + s.name + ".* /run/svc-supervisor/status/containers/*/*c-" + s.name + ".* /run/svc-ipsec/.nss-[0-9]*"},
		} {
			_ = exec.Command(args[0], args[1:]...).Run()
		}
	}
	if err := h.Start(); err != nil {
		fmt.Println(err)
	}
	if err := h.settle(); err != nil {
		fmt.Println("not even by force:", err)
	}
}
