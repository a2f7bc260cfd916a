package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// verbs returns the verbs that were started for a container, in order: "ADD record", "DEL record", or "DEL name" if DEL
// got only the name of the container and not the recorded configuration.
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

// missingDEL describes the DEL that should have run and did not, or returns "". ran are the verbs since the action
// began, of which cut were started before the kill. phase is the phase of the record at the kill, and desired whether
// the container is desired in the end.
func missingDEL(ran []string, cut int, phase string, desired bool) string {
	after := ran[min(cut, len(ran)):]
	if len(after) > 0 && after[0] == "ADD name" {
		after = after[1:] // it started before the kill, but got no configuration and was listed only after the kill
	}
	switch {
	case (phase == "adding" || phase == "deleting") && (len(after) == 0 || !strings.HasPrefix(after[0], "DEL")):
		return fmt.Sprintf("no DEL after the kill, with the record at %s", phase)
	case !desired && len(ran) > 0 && !strings.HasPrefix(ran[len(ran)-1], "DEL"):
		return "no DEL in the end"
	}
	dels := false
	for i, verb := range append(slices.Clone(ran), "end") {
		if strings.HasPrefix(verb, "DEL") {
			dels = true
			continue
		}
		if dels && !slices.Contains(ran[startOfDELs(ran, i):i], "DEL record") {
			return "no DEL got the recorded configuration"
		}
		dels = false
	}
	return ""
}

// startOfDELs returns the index of the first DEL in the sequence of DELs that ends before i.
func startOfDELs(ran []string, i int) int {
	for i > 0 && strings.HasPrefix(ran[i-1], "DEL") {
		i--
	}
	return i
}

// faults describes what is wrong with the container of a job, after the host has reached the desired state.
func (h *harness) faults(j *job) []string {
	var faults []string
	w := j.slot.desired()
	ran := verbs(w.ID)
	if j.held != nil {
		if lost := missingDEL(ran[j.verbs:], j.cut-j.verbs, j.phase, w.Shape != absent); lost != "" {
			h.lost++
			faults = append(
				faults, fmt.Sprintf("%s: verbs %v, killed after %d of them", lost, ran[j.verbs:], j.cut-j.verbs))
		}
	}
	if w.Shape == absent {
		return faults
	}
	if j.action == "RESTART" && j.change.isNone(actions[j.action]) && len(ran) > j.verbs {
		faults = append(faults, fmt.Sprintf("verbs ran although systemd restarts the daemon: %v", ran[j.verbs:]))
	}
	description, err := lab.Describe(w)
	if err != nil {
		return append(faults, err.Error())
	}
	if due := h.references[w.Type+string(w.Shape)]; description != due {
		faults = append(faults, "different from the reference container:\n"+lab.Diff(due, description))
	}
	if pid, err := lab.MainPID(w.Name); j.pid != 0 && (err != nil || pid != j.pid) {
		h.lost++
		faults = append(faults, fmt.Sprintf("the edit restarted the daemon: PID %d, was %d", pid, j.pid))
	} else if is := lab.Serial(w.Name); j.pid != 0 && is != j.serial {
		h.lost++
		faults = append(
			faults, fmt.Sprintf("the edit replaced a conn that was not edited: serial %s, was %s", is, j.serial))
	}
	return faults
}
