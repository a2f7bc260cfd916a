package main

import (
	"fmt"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// jobs says how each point is hit. Without full each kind of kill is once, and the changes of mind take turns.
func jobs(points []point, full bool) []*job {
	var list []*job
	for i, p := range points {
		kinds := []string{"svc-ipsec", "both"}
		if p.process != "svc-ipsec" {
			kinds = []string{p.process}
		}
		for k, kills := range kinds {
			for m, mind := range minds {
				if full || (i+2*k)%len(minds) == m {
					list = append(list, &job{point: p, kills: kills, mind: mind})
				}
			}
		}
	}
	return list
}

// run hits every point, some of them at once where it is the executables that are held.
func (h *harness) run(todo []*job) error {
	for len(todo) > 0 {
		round := todo[:1]
		for _, j := range todo[1:] {
			if first := todo[0]; len(round) < together && first.process == "svc-ipsec" && j.kills == first.kills && first.action != "FRESH" && j.action != "FRESH" {
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
		return fmt.Errorf("no clean state to begin with: %w", err)
	}
	var err error
	switch jobs[0].process {
	case "supervisor":
		err = h.superviseOne(jobs[0])
	case "launcher":
		err = h.launchOne(jobs[0])
		// Another container next time: systemd gives one up that is restarted often.
		h.slots = append(h.slots[1:len(h.slots):len(h.slots)], h.slots[0])
	default:
		if err = h.atTheDoor(jobs); err != nil {
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
		h.conclude(jobs)
	}
	if j := jobs[0]; err == nil && j.action == "FRESH" && j.slot.shape == absent {
		err = h.restore(j)
	}
	return err
}

// restore adds a container over what a cut FRESH has left, since all others need what that was to make.
func (h *harness) restore(j *job) error {
	if err := j.slot.want(lab.A); err != nil {
		return err
	}
	if err := h.settle(); err != nil {
		h.fail(j, "the next ADD: "+err.Error())
		h.scrub()
	}
	return nil
}
