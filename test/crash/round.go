package main

import (
	"errors"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// assign assigns a container to each job, if possible one that already has a shape from which the action can start. It
// then waits until all containers have such a shape.
func (h *harness) assign(jobs []*job) error {
	free := slices.Clone(h.slots)
	for _, fits := range []bool{true, false} {
		for _, j := range jobs {
			if j.slot != nil {
				continue
			}
			at := slices.IndexFunc(free, func(s *slot) bool {
				return s.kind == actions[j.action].kind && (!fits || actions[j.action].starts(s.shape))
			})
			if at < 0 {
				continue
			}
			j.slot = free[at]
			free = slices.Delete(free, at, at+1)
		}
	}
	for _, j := range jobs {
		if a := actions[j.action]; !a.starts(j.slot.shape) {
			if err := j.slot.setDesired(a.from); err != nil {
				return err
			}
		}
	}
	return h.awaitDesired()
}

// begin records the state of the job's container before the action.
func (j *job) begin() error {
	w := j.slot.desired()
	j.verbs = len(verbs(w.ID))
	j.pid, j.serial, j.held = 0, "", nil
	for _, shape := range j.change.states(actions[j.action]) {
		if j.action != "EDIT" || shape == absent {
			return nil
		}
	}
	var err error
	j.pid, err = lab.MainPID(w.Name)
	j.serial = lab.Serial(w.Name)
	return err
}

// recordKill records the state of the job's container at the kill.
func (j *job) recordKill(held *heldProcess) {
	j.held = held
	j.cut = len(verbs(j.slot.desired().ID))
	j.phase = lab.Phase(j.slot.name)
}

// change makes the job's change of the desired state, and starts the supervisor if it does not run.
func (h *harness) change(jobs []*job) error {
	for _, j := range jobs {
		if err := j.slot.setDesired(j.change.states(actions[j.action])[0]); err != nil {
			return err
		}
	}
	if !h.Alive() {
		if err := h.Start(); err != nil {
			return err
		}
	}
	for _, j := range jobs {
		states := j.change.states(actions[j.action])
		if len(states) == 1 {
			continue
		}
		// Wait until the supervisor has seen the first state. If the first state is not absent, there is no phase that
		// shows this, so it gets 200 ms.
		_ = lab.Within(5*time.Second, func() error {
			if phase := lab.Phase(j.slot.name); states[0] == absent && phase != "deleting" && phase != "" {
				return errors.New("not seen")
			}
			return nil
		})
		if states[0] != absent {
			time.Sleep(200 * time.Millisecond)
		}
		if err := j.slot.setDesired(states[1]); err != nil {
			return err
		}
	}
	return nil
}
