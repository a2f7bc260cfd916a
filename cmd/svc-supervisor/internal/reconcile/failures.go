package reconcile

import (
	"errors"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// failures logs failed steps and starts their back-off.
type failures struct{ log *slog.Logger }

// retry starts the back-off of a failed step and logs the error with the delay. It returns whether the executable
// answered code 11, which asks only for a later call.
func (f failures) retry(s *snapshot, m *memory, step decide.Step, err error) (again bool) {
	again = failureOf(step, err) == decide.FailedForNow
	delay := m.retries.failed(step, err, again, time.Now())
	f.log.Warn(step.String()+" failed", "container", s.Name, "type", s.ServiceType(), "error", err,
		"retry", delay.Round(time.Millisecond))
	return again
}

// failureOf classifies the error of the verb of a step.
func failureOf(step decide.Step, err error) decide.Failure {
	var answer *spec.Error
	switch {
	case err == nil:
		return decide.NoFailure
	case !errors.As(err, &answer):
		return decide.FailedSomehow
	case answer.Code == spec.CodeAgain:
		return decide.FailedForNow
	case step == decide.Reconfigure && answer.Code == spec.CodeNotInPlace:
		return decide.FailedInPlace
	case answer.Code.IsFinal():
		return decide.FailedForGood
	default:
		return decide.FailedSomehow
	}
}
