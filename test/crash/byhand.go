package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/test/crash/lab"
)

// handName is the container that this harness makes itself, as any runtime of CNI does.
const handName = "hand-0"

// byHand kills a verb of a container that is not the supervisor's, runs those verbs after it that the runtime's change of mind
// asks for, and compares the container with one that nothing happened to. In the end nothing of it is left.
func (h *harness) byHand(j *job) error {
	j.slot = &slot{name: handName, kind: "IPSEC"}
	if _, err := lab.Run("ip", "netns", "add", handName); err != nil {
		return err
	}
	fault, err := h.cutByHand(j)
	if err != nil {
		return err
	}
	if err := runByHand(lab.A, spec.Del); err != nil {
		fault += "\n" + err.Error()
	}
	if _, err := lab.Run("ip", "netns", "delete", handName); err != nil {
		return err
	}
	j.slot.shape = absent
	if err := h.settle(); err != nil {
		h.leaks++
		fault += "\nleft after DEL: " + err.Error()
	}
	if fault != "" {
		h.fail(j, strings.TrimSpace(fault))
	}
	return nil
}

func (h *harness) cutByHand(j *job) (fault string, err error) {
	action := actions[j.action]
	for _, shape := range []lab.Shape{lab.A, lab.B} {
		if h.portraits["by hand"+string(shape)] == "" { // of one that nothing happened to
			if err := runByHand(shape, spec.Add); err != nil {
				return "", err
			}
			if h.portraits["by hand"+string(shape)], err = lab.Portrait(lab.ByHand(handName, shape)); err != nil {
				return "", err
			}
			if err := runByHand(shape, spec.Del); err != nil {
				return "", err
			}
		}
	}
	verb := spec.Add
	if action.to == absent {
		verb = spec.Del
		if err := runByHand(action.from, spec.Add); err != nil {
			return "", err
		}
	}
	if err := holdByHand(j, verb); err != nil || j.held == nil {
		return "", err
	}
	j.held.kill(j.executable())
	last := absent
	for _, shape := range j.mind.turns(action) {
		verb, shapeOf := spec.Add, shape
		if shape == absent {
			verb, shapeOf = spec.Del, lab.A
		}
		if err := runByHand(shapeOf, verb); err != nil {
			return err.Error(), nil
		}
		last = shape
	}
	if last == absent {
		return "", nil
	}
	portrait, err := lab.Portrait(lab.ByHand(handName, last))
	if err != nil {
		return err.Error(), nil
	}
	if due := h.portraits["by hand"+string(last)]; portrait != due {
		return "not as one that nothing happened to:\n" + lab.Differ(due, portrait), nil
	}
	if err := runByHand(last, spec.Check); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// holdByHand runs a verb and holds it right before the call.
func holdByHand(j *job, verb spec.Verb) error {
	w := lab.ByHand(handName, lab.A)
	door := filepath.Join(lab.Doors, w.ID+"."+string(verb))
	_ = os.Remove(door + ".pid")
	t, err := newTrace(door + ".trace")
	if err != nil {
		return err
	}
	defer t.close()
	if err := os.WriteFile(door, []byte(strings.Join(straceArguments(j.call, t.path), " ")), 0o600); err != nil {
		return err
	}
	cmd, err := lab.HandVerb(w, verb)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// It becomes svc-ipsec, which is ended by the kill, or by itself.
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.Now().Add(hitWithin)
	held, err := t.await(j.of(handName), j.nth, func() bool { return dead(cmd.Process.Pid) || time.Now().After(deadline) })
	if held == nil {
		select {
		case <-ended:
		case <-time.After(hitWithin):
			_ = cmd.Process.Kill()
			return fmt.Errorf("%s by hand does not end: %w", verb, err)
		}
		return nil
	}
	j.held = held
	return nil
}

func runByHand(shape lab.Shape, verb spec.Verb) error {
	cmd, err := lab.HandVerb(lab.ByHand(handName, shape), verb)
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	answer, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s by hand: %w: %s %s", verb, err, bytes.TrimSpace(answer), bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}
