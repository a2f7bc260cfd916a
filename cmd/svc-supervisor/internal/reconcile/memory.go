package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// memo is what the supervisor remembers of a name between two looks: delays, and what only tells people something. Losing it
// in a crash costs nothing but time.
type memory struct {
	wanted     string // digest and executable of the last look: a change of either ends every back-off
	backOff    [stepCount]backOff
	failure    [stepCount]string // the last error of a step that failed, until it succeeds
	broken     string            // what ruleBroken found, until the next ADD
	addFails   int               // failed ADDs in a row
	unreadable backOff           // systemd or the namespaces did not answer
	notInPlace string            // digest for which the executable answered code 100

	checkAt     time.Time // by the interval
	soonAt      time.Time // of one more CHECK: a connection is down, or not all that was pushed is known; zero: none
	good        *goodCheck
	down        downPace
	checkErrors int    // CHECKs in a row that answered with an error and count
	checkError  string // the last answer
	unknown     unknownState
	crashes     crashes
	countedAt   time.Time // when the last of those that count came
	againAt     time.Time // by ADD or CHECK

	pushedAgainAt time.Time // by what was pushed last
	madeAt        time.Time // since when the container runs, by the monotonic clock; zero: not known
	added         time.Time // when the last ADD succeeded
	checked       time.Time // when the last CHECK ended

	ran             bool      // the container ran: what follows is healing
	runningReported bool      // RUNNING was reported of what runs
	downSince       time.Time // wanted, and not running since
	settledAt       time.Time
	port            spec.PortID      // of the binding that had the name last
	published       spec.ContainerID // whose status this name answers for
	health          *spec.Health     // as ADD or CHECK told, and what was pushed since
	timer           *time.Timer
	heldLogged      string
	notes           []string // of the binding that has the name, shown and published while the container runs

	// Of Reconciler.mu: others than the worker write them too.
	row    Row
	pushed pushedHealth
	logged map[string]spec.Connection // by id, as the log has them
	// unitsDue: systemd is to be asked how often it started the units again, and since when they run.
	unitsDue bool
	lines    changeLines
}

// failed notes a failed step and starts its delay.
func (m *memory) failed(step Step, err error, again bool, now time.Time) time.Duration {
	m.failure[step] = err.Error()
	if again {
		return m.backOff[step].tryAgain(now)
	}
	return m.backOff[step].failed(now)
}

// waitsFor is the step whose back-off holds the container.
func (m *memory) waitsFor(s *snapshot) Step {
	for step := stepCount - 1; step > None; step-- {
		if m.failure[step] != "" && s.facts.Waiting[step] {
			return step
		}
	}
	return None
}

// lastFailure is why a step that runs now is a repetition, or why ADD is undone now: a verb that hangs would otherwise hide the reason
// for as long as it runs.
func (m *memory) lastFailure(runs Step) string {
	if runs == None || runs == RunCheck {
		return ""
	}
	for _, step := range []Step{runs, Add} {
		if m.failure[step] == "" {
			continue
		}
		if step == Add && m.failure[Add] == m.broken {
			return m.broken + "; it is made anew"
		}
		return fmt.Sprintf("%v failed, tried again: %s", step, m.failure[step])
	}
	return ""
}

// succeeded ends the wait of a step and forgets its error. The delay goes on growing from where it is until the container
// was settled for a while: one that dies soon after each ADD is not made again at once.
func (m *memory) succeeded(step Step) {
	m.failure[step] = ""
	m.backOff[step].until = time.Time{}
}

// unsettle notes that a settled container needs a step; if it was settled long enough every delay begins anew.
func (m *memory) endSettled(now time.Time) {
	if !m.settledAt.IsZero() && now.Sub(m.settledAt) >= lastDelay {
		m.backOff = [stepCount]backOff{}
	}
	m.settledAt = time.Time{}
}

// forgive ends every delay: something changed that may have been the cause.
func (m *memory) resetBackOffs() {
	m.backOff = [stepCount]backOff{}
	m.notInPlace, m.addFails = "", 0
}

// neverRan forgets the container that the name had: what comes next under it is another one.
func (m *memory) forgetContainer() {
	m.ran, m.downSince, m.addFails, m.broken = false, time.Time{}, 0, ""
	m.crashes = crashes{}
}

// noteHealth notes what ADD or CHECK told. Asked for anew at each CHECK, ADD again still comes.
func (m *memory) noteHealth(health *spec.Health) {
	m.health = health
	if health == nil {
		return
	}
	now := time.Now()
	m.soonAt = time.Time{}
	if delay := m.down.next(health, now); delay > 0 {
		m.soonAt = now.Add(delay)
	}
	if health.Again == nil {
		return
	}
	at := time.Now().Add(time.Duration(health.Again.After) * time.Second)
	if m.againAt.IsZero() || at.Before(m.againAt) {
		m.againAt = at
	}
}

// noteCheckError notes that CHECK answered with an error. Events can make CHECKs follow each other closely, so one that comes
// sooner than pause after one that counts does not count: a fault that passes in that time is none. The next CHECK is due when it
// would count.
func (m *memory) noteCheckError(said *spec.Error, now time.Time, pause time.Duration) {
	m.checkError = said.Error()
	if m.checkErrors == 0 || now.Sub(m.countedAt) >= pause {
		m.checkErrors++
		m.countedAt = now
	}
	m.checkAt = m.countedAt.Add(pause)
}

// againDue says whether the executable, or what it started, asked for ADD again by now.
func (m *memory) againDue(now time.Time) bool {
	return slices.ContainsFunc([]time.Time{m.againAt, m.pushedAgainAt}, func(at time.Time) bool { return !at.IsZero() && !now.Before(at) })
}

// stoppedLocked clears the due times and the last report of a container that is removed.
func (m *memory) stoppedLocked() {
	m.madeAt = time.Time{}
	m.unknown = unknownState{}
	m.health, m.checkErrors, m.runningReported, m.logged, m.down = nil, 0, false, nil, downPace{}
	m.checkAt, m.soonAt, m.checked, m.good = time.Time{}, time.Time{}, time.Time{}, nil
	m.againAt, m.pushedAgainAt, m.settledAt = time.Time{}, time.Time{}, time.Time{}
}

// wake is when this name must be looked at again though nothing happens; zero is never.
func (m *memory) wake(now time.Time) time.Time {
	times := []time.Time{m.checkAt, m.soonAt, m.againAt, m.pushedAgainAt, m.unreadable.until}
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
