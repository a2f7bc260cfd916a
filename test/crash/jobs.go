package main

import (
	"fmt"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// jobs returns the jobs for all points. With full, each point has every kind of kill with every change. Without full,
// each point has every kind of kill once, and the changes are used in turn.
func jobs(points []point, full bool) []*job {
	var list []*job
	for i, p := range points {
		kinds := []string{"svc-ipsec", "both"}
		if p.process != "svc-ipsec" {
			kinds = []string{p.process}
		}
		for k, kills := range kinds {
			for m, change := range changes {
				if full || (i+2*k)%len(changes) == m {
					list = append(list, &job{point: p, kills: kills, change: change})
				}
			}
		}
	}
	return list
}

// run runs all jobs. Jobs that hold executables run in parallel, up to maxParallel. A job whose point was not hit is
// tried up to maxTries times.
func (h *harness) run(todo []*job) error {
	for len(todo) > 0 {
		round := todo[:1]
		for _, j := range todo[1:] {
			first := todo[0]
			parallel := first.process == "svc-ipsec" && j.kills == first.kills &&
				first.action != "FRESH" && j.action != "FRESH"
			if len(round) < maxParallel && parallel {
				round = append(slices.Clip(round), j)
			}
		}
		todo = slices.DeleteFunc(slices.Clone(todo), func(j *job) bool { return slices.Contains(round, j) })
		if err := h.round(round); err != nil {
			return err
		}
		for _, j := range round {
			if j.held != nil {
				h.hits[j.point.String()]++
			} else if j.tries++; j.tries < maxTries {
				todo = append(todo, j)
			}
			j.slot = nil
		}
	}
	return nil
}

func (h *harness) round(jobs []*job) error {
	if jobs[0].process == "by-hand" {
		return h.byHand(jobs[0])
	}
	if err := h.assign(jobs); err != nil {
		return fmt.Errorf("the host has not reached the state in which the round starts: %w", err)
	}
	var err error
	switch jobs[0].process {
	case "supervisor":
		err = h.killSupervisor(jobs[0])
	case "launcher":
		err = h.killLauncher(jobs[0])
		// The next job uses another container, because systemd stops restarting a unit that failed too often.
		h.slots = append(h.slots[1:len(h.slots):len(h.slots)], h.slots[0])
	default:
		if err = h.holdExecutables(jobs); err != nil {
			return err
		}
		if err = h.killExecutables(jobs, jobs[0].kills == "both"); err != nil {
			h.fail(jobs[0], err.Error())
			err = nil
		}
	}
	if err == nil {
		err = h.change(jobs)
	}
	if err == nil {
		h.verify(jobs)
	}
	if j := jobs[0]; err == nil && j.action == "FRESH" && j.slot.shape == absent {
		err = h.restore(j)
	}
	return err
}

// restore adds a container after a killed FRESH. The other jobs need the shared parts that FRESH was about to make.
func (h *harness) restore(j *job) error {
	if err := j.slot.setDesired(lab.A); err != nil {
		return err
	}
	if err := h.awaitDesired(); err != nil {
		h.fail(j, "the next ADD: "+err.Error())
		h.cleanUp()
	}
	return nil
}
