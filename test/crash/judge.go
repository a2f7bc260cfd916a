package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// verbs lists what began for a container, in its order: "ADD record", "DEL record", or "DEL name" where DEL was told no
// more than a name.
func verbs(id string) []string {
	text, _ := os.ReadFile(lab.Verbs)
	var list []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == id {
			list = append(list, fields[1]+" "+fields[2])
		}
	}
	return list
}

// missing says which DEL was not run, given the verbs since the action began, how many of them began before the kill, the
// record's phase at the kill, and whether the container is wanted in the end.
func missing(ran []string, cut int, phase string, wanted bool) string {
	after := ran[min(cut, len(ran)):]
	if len(after) > 0 && after[0] == "ADD name" {
		after = after[1:] // it began before the kill and wrote itself down after: its configuration never came
	}
	switch {
	case (phase == "adding" || phase == "deleting") && (len(after) == 0 || !strings.HasPrefix(after[0], "DEL")):
		return fmt.Sprintf("no DEL after the kill, with the record at %s", phase)
	case !wanted && len(ran) > 0 && !strings.HasPrefix(ran[len(ran)-1], "DEL"):
		return "no DEL in the end"
	}
	dels := false
	for i, verb := range append(slices.Clone(ran), "end") {
		if strings.HasPrefix(verb, "DEL") {
			dels = true
			continue
		}
		if dels && !slices.Contains(ran[lastOther(ran, i):i], "DEL record") {
			return "DEL was never told what the record knew"
		}
		dels = false
	}
	return ""
}

// lastOther is where the row of DELs begins that ends before i.
func lastOther(ran []string, i int) int {
	for i > 0 && strings.HasPrefix(ran[i-1], "DEL") {
		i--
	}
	return i
}

// judge returns what is wrong with a container whose end the world agrees with.
func (h *harness) judge(j *job) []string {
	var faults []string
	w := j.slot.wanted()
	ran := verbs(w.ID)
	if j.held != nil {
		if lost := missing(ran[j.verbs:], j.cut-j.verbs, j.phase, w.Shape != absent); lost != "" {
			h.lost++
			faults = append(faults, fmt.Sprintf("%s: %v, killed after %d", lost, ran[j.verbs:], j.cut-j.verbs))
		}
	}
	if w.Shape == absent {
		return faults
	}
	if j.action == "RESTART" && j.mind.keeps(actions[j.action]) && len(ran) > j.verbs {
		faults = append(faults, fmt.Sprintf("systemd did not bring the daemon back by itself: %v", ran[j.verbs:]))
	}
	portrait, err := lab.Portrait(w)
	if err != nil {
		return append(faults, err.Error())
	}
	if due := h.portraits[w.Type+string(w.Shape)]; portrait != due {
		faults = append(faults, "not as one that nothing happened to:\n"+lab.Differ(due, portrait))
	}
	if pid, err := lab.MainPID(w.Name); j.pid != 0 && (err != nil || pid != j.pid) {
		h.lost++
		faults = append(faults, fmt.Sprintf("the edit cost the daemon: PID %d, was %d", pid, j.pid))
	} else if is := lab.Serial(w.Name); j.pid != 0 && is != j.serial {
		h.lost++
		faults = append(faults, fmt.Sprintf("the edit cost a tunnel that was not edited: conn %s, was %s", is, j.serial))
	}
	return faults
}
