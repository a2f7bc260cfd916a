package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// memory is what the supervisor keeps in memory about a name between two observations: delays, and values that are only
// shown or logged. Losing it in a crash costs only time.
type memory struct {
	wanted     attempt // what the last observation wanted; a change ends every back-off
	backOff    [decide.StepCount]backOff
	failure    [decide.StepCount]string // the last error of each step that failed, until the step succeeds
	broken     string                   // why the container was Broken, until the next ADD
	addFails   int                      // number of ADDs in a row that failed
	unreadable backOff                  // delays the next observation if something could not be read or removed
	notInPlace string                   // digest for which the executable answered code 100

	checkAt time.Time // when the CHECK at the interval is due
	// extraCheckAt is when an additional CHECK is due because a connection is down or a push is incomplete; zero: none.
	extraCheckAt time.Time
	good         *goodCheck
	down         downPace
	checkErrors  int    // number of errors of CHECK in a row that count
	checkError   string // the last error of CHECK
	unknown      unknownState
	crashes      crashes
	countedAt    time.Time // when the last counted error of CHECK occurred
	againAt      time.Time // when the reconfiguration is due that ADD or CHECK asked for

	pushedAgainAt time.Time // when the reconfiguration is due that the last push asked for
	runningSince  time.Time // since when the container runs, by the monotonic clock; zero: unknown
	added         time.Time // when the last ADD succeeded
	checked       time.Time // when the last CHECK ended

	ran             bool      // the container has run before, so it is being repaired
	runningReported bool      // a status was published since the container runs
	downSince       time.Time // since when the container is wanted and does not run
	settledAt       time.Time
	port            spec.PortID      // port of the last binding of the name
	published       spec.ContainerID // the container id whose status this name publishes
	health          *spec.Health     // from the last ADD or CHECK, with later pushes applied
	timer           *time.Timer
	heldLogged      string
	notes           []string // of the name's binding; shown and published while the container runs

	// Protected by memories.mu, because not only the worker writes them.
	row    Row
	pushed pushedHealth
	logged map[string]spec.Connection // the connections by id, in the state that was logged last
	// unitsDue is set if systemd must be asked how often it restarted the units, and since when they run.
	unitsDue bool
	lines    changeLines
}

// attempt is what a step depends on. A change of it may have removed the cause of earlier failures.
type attempt struct {
	digest, taken string
	wanted        bool
	executable    string // path and version
	ready         bool   // STATUS of the executable is good
}

// failed records a failed step and starts its delay. again reports code 11, whose delay is fixed.
func (m *memory) failed(step decide.Step, err error, again bool, now time.Time) time.Duration {
	m.failure[step] = err.Error()
	if again {
		return m.backOff[step].tryAgain(now)
	}
	return m.backOff[step].failed(now)
}

// lastFailure returns why the current step is a retry, or why ADD is being undone. ps shows it, because a verb that
// hangs would otherwise hide the reason while it runs.
func (m *memory) lastFailure(runs decide.Step) string {
	if runs == decide.None || runs == decide.RunCheck {
		return ""
	}
	for _, step := range []decide.Step{runs, decide.Add} {
		if m.failure[step] == "" {
			continue
		}
		if step == decide.Add && m.failure[decide.Add] == m.broken {
			return m.broken + "; it is being recreated"
		}
		return fmt.Sprintf("%v failed, tried again: %s", step, m.failure[step])
	}
	return ""
}

// succeeded ends the back-off of a step and clears its error. The delay keeps its length until the container has been
// settled for some time. So a container that fails soon after each ADD is not recreated without delay.
func (m *memory) succeeded(step decide.Step) {
	m.failure[step] = ""
	m.backOff[step].until = time.Time{}
}

// noteRunning records that the container runs. good reports that no unit of it starts or stops.
func (m *memory) noteRunning(now time.Time, good bool) {
	m.downSince = time.Time{}
	if good {
		m.crashes.up(now)
	}
}

// noteSettled records that the container runs as it is wanted.
func (m *memory) noteSettled(now time.Time) {
	if m.settledAt.IsZero() {
		m.settledAt = now
	}
	m.addFails, m.ran = 0, true
}

// endSettled records that a settled container needs a step. If it was settled for lastDelay, every back-off starts
// again at firstDelay.
func (m *memory) endSettled(now time.Time) {
	if !m.settledAt.IsZero() && now.Sub(m.settledAt) >= lastDelay {
		m.backOff = [decide.StepCount]backOff{}
	}
	m.settledAt = time.Time{}
}

// resetBackOffs ends every back-off, because something changed that may have caused the failures.
func (m *memory) resetBackOffs() {
	m.backOff = [decide.StepCount]backOff{}
	m.notInPlace, m.addFails = "", 0
}

// noteHistory discards the history of another container that had the name before, and notes whether the container ran
// according to its record.
func (m *memory) noteHistory(s *snapshot) {
	b := s.Claim.Binding
	if b != nil && s.Facts.Record == decide.NoRecord && m.published != "" && m.published != b.Container.ContainerID {
		m.forgetContainer()
	}
	if s.Entry == nil || s.Entry.Record == nil || s.Entry.Record.AddedAt == nil {
		return
	}
	// A record of phase `deleted` may be that of another container.
	recorded := s.Entry.Record.Container.ContainerID
	if s.Facts.Record != decide.NoRecord || b == nil || b.Container.ContainerID == recorded {
		m.ran = true
	}
}

// forgetContainer discards the history of the container that had the name, because the next container of this name is
// another one.
func (m *memory) forgetContainer() {
	m.ran, m.downSince, m.addFails, m.broken = false, time.Time{}, 0, ""
	m.failure = [decide.StepCount]string{}
	m.crashes = crashes{}
}

// noteHealth stores the health that ADD or CHECK reported. If each CHECK asks for a reconfiguration, the earliest time
// stays, so that the reconfiguration is not postponed for ever.
func (m *memory) noteHealth(health *spec.Health) {
	m.health = health
	if health == nil {
		return
	}
	now := time.Now()
	m.extraCheckAt = time.Time{}
	if delay := m.down.next(health, now); delay > 0 {
		m.extraCheckAt = now.Add(delay)
	}
	if health.Again == nil {
		return
	}
	at := time.Now().Add(time.Duration(health.Again.After) * time.Second)
	if m.againAt.IsZero() || at.Before(m.againAt) {
		m.againAt = at
	}
}

// noteCheckError records an error of CHECK. Events can make CHECKs follow each other closely. Therefore an error does
// not count if it occurs less than pause after one that counts: a fault that disappears within that time is ignored.
// The next CHECK is due when its error would count, and after the second one at next.
func (m *memory) noteCheckError(answer *spec.Error, now time.Time, pause time.Duration, next time.Time) {
	m.checkError = answer.Error()
	if m.checkErrors == 0 || now.Sub(m.countedAt) >= pause {
		m.checkErrors++
		m.countedAt = now
	}
	m.checkAt = m.countedAt.Add(pause)
	if m.checkErrors > 1 { // while STATUS is bad, no DEL follows
		m.checkAt = next
	}
}

// againDue reports whether a reconfiguration is due that ADD, CHECK or a push asked for.
func (m *memory) againDue(now time.Time) bool {
	return slices.ContainsFunc([]time.Time{m.againAt, m.pushedAgainAt}, func(at time.Time) bool {
		return !at.IsZero() && !now.Before(at)
	})
}

// stoppedLocked clears the due times and the last health of a container that is removed.
func (m *memory) stoppedLocked() {
	m.runningSince = time.Time{}
	m.unknown = unknownState{}
	m.health, m.checkErrors, m.runningReported, m.logged, m.down = nil, 0, false, nil, downPace{}
	m.checkAt, m.extraCheckAt, m.checked, m.good = time.Time{}, time.Time{}, time.Time{}, nil
	m.againAt, m.pushedAgainAt, m.settledAt = time.Time{}, time.Time{}, time.Time{}
}

// wake returns when the name must be observed again if no event occurs, or zero if that is not needed.
func (m *memory) wake(now time.Time) time.Time {
	times := []time.Time{m.checkAt, m.extraCheckAt, m.againAt, m.pushedAgainAt, m.unreadable.until}
	for _, b := range m.backOff {
		times = append(times, b.until)
	}
	times = append(times, m.crashes.stableAt())
	if !m.downSince.IsZero() {
		times = append(times, m.downSince.Add(healingTimeout))
	}
	var first time.Time
	for _, t := range times {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
