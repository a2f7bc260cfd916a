package main

import (
	"errors"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// assign gives each job a container that is in the state where its action starts.
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
			if err := j.slot.want(a.from); err != nil {
				return err
			}
		}
	}
	return h.settle()
}

// begin notes how things are before the action.
func (j *job) begin() error {
	w := j.slot.wanted()
	j.verbs = len(verbs(w.ID))
	j.pid, j.serial, j.held = 0, "", nil
	for _, shape := range j.mind.turns(actions[j.action]) {
		if j.action != "EDIT" || shape == absent {
			return nil
		}
	}
	var err error
	j.pid, err = lab.MainPID(w.Name)
	j.serial = lab.Serial(w.Name)
	return err
}

// hold notes how things are at the kill.
func (j *job) hold(held *hold) {
	j.held = held
	j.cut = len(verbs(j.slot.wanted().ID))
	j.phase = lab.Phase(j.slot.name)
}

// change lets the NSDB change its mind, and starts the supervisor if it is dead.
func (h *harness) change(jobs []*job) error {
	for _, j := range jobs {
		if err := j.slot.want(j.mind.turns(actions[j.action])[0]); err != nil {
			return err
		}
	}
	if !h.Alive() {
		if err := h.Start(); err != nil {
			return err
		}
	}
	for _, j := range jobs {
		turns := j.mind.turns(actions[j.action])
		if len(turns) == 1 {
			continue
		}
		_ = lab.Within(5*time.Second, func() error { // that it has seen the first turn; where there is nothing to see, it had time to
			if phase := lab.Phase(j.slot.name); turns[0] == absent && phase != "deleting" && phase != "" {
				return errors.New("not seen")
			}
			return nil
		})
		if turns[0] != absent {
			time.Sleep(200 * time.Millisecond)
		}
		if err := j.slot.want(turns[1]); err != nil {
			return err
		}
	}
	return nil
}
