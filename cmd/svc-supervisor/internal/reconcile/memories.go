package reconcile

import (
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// memories holds the memory of each name. mu protects its fields, and the field shared of each memory. The locks of
// other types may be locked while mu is held, but not the other way round.
type memories struct {
	mu      sync.Mutex
	byName  map[spec.Name]*memory
	stopped bool
}

// get returns the memory of a name and creates it if necessary.
func (l *memories) get(name spec.Name) *memory {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.getLocked(name)
}

func (l *memories) getLocked(name spec.Name) *memory {
	m := l.byName[name]
	if m == nil {
		m = new(memory)
		l.byName[name] = m
	}
	return m
}

// addNames adds every name that has a memory to names.
func (l *memories) addNames(names map[spec.Name]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.byName {
		names[name] = true
	}
}

// setUnitsDue requests that systemd is asked for restarts and ages of the name's units.
func (l *memories) setUnitsDue(name spec.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.byName[name]; m != nil {
		m.shared.unitsDue = true
	}
}

// takeUnitsDue reports whether systemd must be asked for restarts and ages of the units: after a change of one of them
// and after each CHECK. It clears the mark. Each query is a call to systemd, so not every observation makes it.
func (l *memories) takeUnitsDue(m *memory) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := m.shared.unitsDue
	m.shared.unitsDue = false
	return due
}

// setRow stores the row of a name for ps, with the health that was pushed since. runs reports whether the container
// runs, as far as its record says.
func (l *memories) setRow(m *memory, row Row, runs bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if row.Health != nil {
		row.Health = row.Health.With(m.shared.pushed.connections)
	}
	m.shared.row = row
	switch {
	case runs || row.Name == "":
		m.shared.notRunningSince = time.Time{}
	case m.shared.notRunningSince.IsZero():
		m.shared.notRunningSince = time.Now()
	}
}

// forgetOrWake sets the timer that marks the name for the next observation, or deletes the memory of a name that has
// neither binding nor resources.
func (l *memories) forgetOrWake(s *snapshot, m *memory, now time.Time, mark func(spec.Name)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.shared.timer != nil {
		m.shared.timer.Stop()
	}
	if l.stopped {
		return
	}
	if at := m.wake(now); !at.IsZero() {
		m.shared.timer = time.AfterFunc(time.Until(at), func() { mark(s.Name) })
		return
	}
	if s.Facts.Wanted == decide.NotWanted && s.Facts.Record == decide.NoRecord &&
		s.Facts.Readable && !s.Facts.Leftover {
		delete(l.byName, s.Name)
	}
}

// stop ends the timers.
func (l *memories) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for _, m := range l.byName {
		if m.shared.timer != nil {
			m.shared.timer.Stop()
		}
	}
}
