package reconcile

import (
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
)

// retries has the steps of a name that failed, and the times of the next attempts.
type retries struct {
	attempt    attempt // the inputs of the steps at the last observation; a change ends every back-off
	backOff    [decide.StepCount]backOff
	failure    [decide.StepCount]string // the last error of each step that failed, until the step succeeds
	unreadable backOff                  // delays the next observation if something could not be read or removed
	broken     string                   // why the container was Broken, until the next ADD
	addFails   int                      // number of ADDs in a row that failed
	notInPlace string                   // digest for which the executable answered code 100
}

// attempt is what a step depends on. A change of it may have removed the cause of earlier failures.
type attempt struct {
	digest, taken string
	wanted        bool
	executable    string // path and version
	ready         bool   // STATUS of the executable is good
}

// setAttempt records the inputs of the steps at this observation. If they changed, it ends every back-off.
func (r *retries) setAttempt(a attempt) {
	if r.attempt == a {
		return
	}
	r.attempt = a
	r.endDelays()
	r.notInPlace, r.addFails = "", 0
}

// failed records a failed step and starts its delay. again reports code 11, whose delay is fixed.
func (r *retries) failed(step decide.Step, err error, again bool, now time.Time) time.Duration {
	r.failure[step] = err.Error()
	if again {
		return r.backOff[step].tryAgain(now)
	}
	return r.backOff[step].failed(now)
}

// reason returns why the current step is a retry, or why ADD is being undone. ps shows it, because a verb that hangs
// would otherwise hide the reason while it runs.
func (r *retries) reason(runs decide.Step) string {
	if runs == decide.None || runs == decide.RunCheck {
		return ""
	}
	for _, step := range []decide.Step{runs, decide.Add} {
		if r.failure[step] == "" {
			continue
		}
		if step == decide.Add && r.recreates() {
			return r.broken + "; it is being recreated"
		}
		return fmt.Sprintf("%v failed, will be retried: %s", step, r.failure[step])
	}
	return ""
}

// recreates reports whether the next ADD follows the removal of a broken container, and not an ADD that failed.
func (r *retries) recreates() bool { return r.broken != "" && r.failure[decide.Add] == r.broken }

// succeeded ends the back-off of a step and clears its error. The delay keeps its length until the container has been
// settled for some time. So a container that fails soon after each ADD is not recreated without delay.
func (r *retries) succeeded(step decide.Step) {
	r.failure[step] = ""
	r.backOff[step].until = time.Time{}
}

// endDelays ends every back-off, and makes the next one start at firstDelay.
func (r *retries) endDelays() { r.backOff = [decide.StepCount]backOff{} }

// forgetErrors discards the errors of the container that had the name. The delays stay.
func (r *retries) forgetErrors() {
	r.failure, r.broken, r.addFails = [decide.StepCount]string{}, "", 0
}
