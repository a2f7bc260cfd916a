package reconcile

import (
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// memory is what the supervisor keeps in memory about a name between two observations: delays, and values that are
// only shown or logged. Losing it in a crash costs only time. Only the worker of the name uses it, except for the
// fields that memories.mu protects.
type memory struct {
	retries  retries
	checks   checkState
	requests requests
	life     lifetime
	crashes  crashes
	// health is from the last ADD or CHECK, with later pushes applied. The worker writes it with memories.mu locked,
	// because pushes read it.
	health *spec.Health

	port       spec.PortID      // port of the last binding of the name
	published  spec.ContainerID // the container id whose status this name publishes
	notes      []string         // of the name's binding; shown and published while the container runs
	heldLogged string           // why the container was held when that was logged last

	shared shared
}

// shared is the part of a memory that not only the worker of the name writes. memories.mu protects it.
type shared struct {
	timer *time.Timer // marks the name when something is due
	row   Row
	// notRunningSince is since when a container that is shown does not run; zero: it runs, or none is shown.
	notRunningSince time.Time

	pushed pushedHealth
	logged map[string]spec.Connection // the connections by id, in the state that was logged last
	lines  changeLines
	// unitsDue is set if systemd must be asked how often it restarted the units, and since when they run.
	unitsDue bool
}

// lifetime has the times at which a container was added, started to run, and went down, and what is known of earlier
// runs.
type lifetime struct {
	ran          bool      // the container has run before, so it is being repaired
	reported     bool      // a status was published since the container runs
	createdHere  bool      // this process created the container, so it knows all restarts of its units
	added        time.Time // when the last ADD succeeded; also one on a running container
	runningSince time.Time // since when the container runs, by the monotonic clock; zero: unknown
	downSince    time.Time // since when the container is wanted and does not run
	settledAt    time.Time // since when the container runs as it is wanted; zero: it does not
}

// requests has the times at which reconfigurations are due that plugins asked for; zero: none.
type requests struct {
	fromVerb time.Time // asked for by ADD or CHECK
	fromPush time.Time // asked for by the last push
}

// due reports whether a reconfiguration is due.
func (r *requests) due(now time.Time) bool {
	return slices.ContainsFunc([]time.Time{r.fromVerb, r.fromPush}, func(at time.Time) bool {
		return !at.IsZero() && !now.Before(at)
	})
}

// noteRunning records that the container runs. good reports that no unit of it starts or stops.
func (m *memory) noteRunning(now time.Time, good bool) {
	m.life.downSince = time.Time{}
	if good {
		m.crashes.up(now)
	}
}

// noteSettled records that the container runs as it is wanted.
func (m *memory) noteSettled(now time.Time) {
	if m.life.settledAt.IsZero() {
		m.life.settledAt = now
	}
	m.retries.addFails, m.life.ran = 0, true
}

// endSettled records that a settled container needs a step. If it was settled for lastDelay, every back-off starts
// again at firstDelay.
func (m *memory) endSettled(now time.Time) {
	if at := m.life.settledAt; !at.IsZero() && now.Sub(at) >= lastDelay {
		m.retries.endDelays()
	}
	m.life.settledAt = time.Time{}
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
		m.life.ran = true
	}
}

// forgetContainer discards the history of the container that had the name, because the next container of this name is
// another one.
func (m *memory) forgetContainer() {
	m.life.ran, m.life.downSince = false, time.Time{}
	m.retries.forgetErrors()
	m.crashes = crashes{}
}

// noteHealthLocked stores the health that ADD or CHECK reported. If each CHECK asks for a reconfiguration, the
// earliest time stays, so that the reconfiguration is not postponed for ever.
func (m *memory) noteHealthLocked(health *spec.Health) {
	m.health = health
	if health == nil {
		return
	}
	now := time.Now()
	m.checks.extraAt = time.Time{}
	if delay := m.checks.down.next(health, now); delay > 0 {
		m.checks.extraAt = now.Add(delay)
	}
	if health.Again == nil {
		return
	}
	at := now.Add(time.Duration(health.Again.After) * time.Second)
	if m.requests.fromVerb.IsZero() || at.Before(m.requests.fromVerb) {
		m.requests.fromVerb = at
	}
}

// stoppedLocked clears the due times and the last health of a container that is removed.
func (m *memory) stoppedLocked() {
	m.checks, m.requests, m.health = checkState{}, requests{}, nil
	m.life.reported, m.life.runningSince, m.life.settledAt = false, time.Time{}, time.Time{}
	m.shared.logged = nil
}

// wake returns when the name must be observed again if no event occurs, or zero if that is not needed.
func (m *memory) wake(now time.Time) time.Time {
	times := []time.Time{
		m.checks.at, m.checks.extraAt, m.requests.fromVerb, m.requests.fromPush, m.retries.unreadable.until,
		m.crashes.stableAt(),
	}
	for _, b := range m.retries.backOff {
		times = append(times, b.until)
	}
	if !m.life.downSince.IsZero() {
		times = append(times, m.life.downSince.Add(healingTimeout))
	}
	var first time.Time
	for _, t := range times {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
