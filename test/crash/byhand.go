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

// handName is the name of the container that this harness makes itself, as another CNI runtime would.
const handName = "hand-0"

// byHand kills a verb of a container that the supervisor does not manage. It then runs the verbs for the job's change,
// and compares the container with a reference container. In the end it runs DEL and checks that nothing is left.
func (h *harness) byHand(j *job) error {
	j.slot = &slot{name: handName, kind: "IPSEC"}
	if _, err := lab.Run("ip", "netns", "add", handName); err != nil {
		return err
	}
	fault, err := h.killByHand(j)
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
	if err := h.awaitDesired(); err != nil {
		h.leaks++
		fault += "\nleft after DEL: " + err.Error()
	}
	if fault != "" {
		h.fail(j, strings.TrimSpace(fault))
	}
	return nil
}

// killByHand kills the verb at the point of the job and runs the verbs for the job's change. fault describes what is
// wrong with the container afterwards, or is "".
func (h *harness) killByHand(j *job) (fault string, err error) {
	action := actions[j.action]
	for _, shape := range []lab.Shape{lab.A, lab.B} {
		if h.references["by hand"+string(shape)] == "" {
			if err := runByHand(shape, spec.Add); err != nil {
				return "", err
			}
			if h.references["by hand"+string(shape)], err = lab.Describe(lab.ByHand(handName, shape)); err != nil {
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
	for _, shape := range j.change.states(action) {
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
	description, err := lab.Describe(lab.ByHand(handName, last))
	if err != nil {
		return err.Error(), nil
	}
	if due := h.references["by hand"+string(last)]; description != due {
		return "different from the reference container:\n" + lab.Diff(due, description), nil
	}
	if err := runByHand(last, spec.Check); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// holdByHand runs a verb and holds it right before the call. If the verb ends without making the call, j.held stays
// nil.
func holdByHand(j *job, verb spec.Verb) error {
	w := lab.ByHand(handName, lab.A)
	breakpoint := filepath.Join(lab.Breakpoints, w.ID+"."+string(verb))
	_ = os.Remove(breakpoint + ".pid")
	t, err := newTrace(breakpoint + ".trace")
	if err != nil {
		return err
	}
	defer t.close()
	if err := os.WriteFile(breakpoint, []byte(strings.Join(straceArguments(j.call, t.path), " ")), 0o600); err != nil {
		return err
	}
	cmd, err := lab.ByHandCommand(w, verb)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// The script becomes svc-ipsec by exec. That process ends because it is killed, or by itself.
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.Now().Add(hitTimeout)
	held, err := t.await(j.of(handName), j.nth,
		func() bool { return dead(cmd.Process.Pid) || time.Now().After(deadline) })
	if held == nil {
		select {
		case <-ended:
		case <-time.After(hitTimeout):
			_ = cmd.Process.Kill()
			return fmt.Errorf("%s by hand does not end: %w", verb, err)
		}
		return nil
	}
	j.held = held
	return nil
}

func runByHand(shape lab.Shape, verb spec.Verb) error {
	cmd, err := lab.ByHandCommand(lab.ByHand(handName, shape), verb)
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
