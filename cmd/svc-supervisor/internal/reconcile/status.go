package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// healingTimeout is how long the repair of a container that ran may take before the container is published as ERROR.
const healingTimeout = time.Minute

// publish publishes the status of a container that the status table selects at a moment of its work. err is the error
// of the verb if the moment is StepFailed.
func (p *statuses) publish(s *snapshot, m *memory, d decide.Decision, moment decide.Moment, err error) {
	c := s.containerOfStatus(d, moment)
	publication := decide.Status(p.facts(s, m, d, moment, err))
	switch publication {
	case decide.Keep:
		return
	case decide.RemoveStatus, decide.LeaveStatus:
		if m.published != "" {
			p.unpublish(s.Name, m)
		}
		return
	}
	p.own(c, m)
	if moment != decide.Observed || d.Condition != decide.Running {
		code, message := p.text(publication, s, m, d, err)
		var health *spec.Health // nil: the connections stay
		if publication == decide.PublishUnstable {
			health = new(spec.Health) // no connection is up while the container is removed and added again
		}
		p.report.Set(c, code, message, health)
		return
	}
	// The container runs. The lock keeps a later push from being overwritten.
	p.memories.mu.Lock()
	defer p.memories.mu.Unlock()
	m.applyPushedLocked()
	m.life.reported = true
	code, message := p.text(publication, s, m, d, err)
	p.report.Set(c, code, message, m.health)
}

// text returns the code and the message of a publication.
func (p *statuses) text(
	publication decide.Publication, s *snapshot, m *memory, d decide.Decision, err error,
) (code spec.StatusCode, message string) {
	switch publication {
	case decide.PublishStarting:
		return spec.Starting, ""
	case decide.PublishStopping:
		return spec.Stopping, ""
	case decide.PublishRunning:
		return spec.Running, runningText(m)
	case decide.PublishUnstable:
		return spec.Running, m.crashes.reason()
	case decide.PublishKeepsFailing:
		return spec.Failed, m.crashes.reason()
	case decide.PublishChangeFailed:
		return spec.Running, "change failed: " + err.Error()
	default: // decide.PublishError
		return spec.Failed, p.errorText(s, m, d, err)
	}
}

// containerOfStatus returns the container that a status concerns: the recorded one while it runs and when its DEL
// begins, otherwise the wanted one.
func (s *snapshot) containerOfStatus(d decide.Decision, moment decide.Moment) spec.Container {
	b, record := s.Claim.Binding, s.Record()
	recorded := d.Step == decide.Delete || moment == decide.Observed && d.Condition == decide.Running
	if b != nil && (record == nil || !recorded) {
		return b.Container
	}
	return s.Container()
}

// runningText returns the message of a container that runs: the notes of its binding and the message of its health.
func runningText(m *memory) string {
	texts := slices.Clone(m.notes)
	if m.health != nil && m.health.Message != "" {
		texts = append(texts, m.health.Message)
	}
	return strings.Join(texts, "; ")
}

// errorText returns the message of a container that is published as ERROR: the error of its verb, or why it is held.
func (p *statuses) errorText(s *snapshot, m *memory, d decide.Decision, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case d.Hold == decide.HeldBackOff:
		return m.retries.failure[d.Waits] // the text that was published when the step failed
	default:
		return reason(p.desired, s, m, d)
	}
}

// facts gathers what the status of a container depends on.
func (p *statuses) facts(
	s *snapshot, m *memory, d decide.Decision, moment decide.Moment, err error,
) decide.StatusFacts {
	now := s.now
	if moment != decide.Observed { // the verb may have run for long
		now = time.Now()
	}
	binding, record := s.Claim.Binding, s.Record()
	id := s.containerOfStatus(d, moment).ContainerID
	return decide.StatusFacts{
		Facts: s.Facts, Decision: d, Moment: moment, Failure: failureOf(d.Step, err),
		SameContainer: binding != nil && record != nil && binding.Container.ContainerID == record.Container.ContainerID,
		UsedElsewhere: p.desired.heldElsewhere(id, s.Name, nil),
		Reported:      m.life.reported,
		Retried:       m.retries.addFails > 0 || d.Step == decide.Delete && m.retries.failure[decide.Delete] != "",
		Ran:           m.life.ran,
		DownTooLong:   !m.life.downSince.IsZero() && now.Sub(m.life.downSince) >= healingTimeout,
		Recreating:    d.Waits == decide.Add && m.retries.recreates(),
		Unstable:      m.crashes.loops(),
		KeepsFailing:  m.crashes.isError,
	}
}
