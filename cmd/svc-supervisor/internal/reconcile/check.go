package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// check runs CHECK, which has three answers: the container is good, it is broken, or its state is not known. Only "broken" counts, and
// only twice in a row. Not known is everything but an error object: a deadline, a signal, garbage; code 11, and code 999, with which
// svc-ipsec 0.1.0 answered every error; and whatever CHECK answers while systemd or the namespaces do not answer, or a unit is on
// its way.
func (r *Reconciler) check(ctx context.Context, s *snapshot, m *memory) {
	record := s.record()
	stdout, err := r.run(ctx, spec.Check, s.toEnd, record)
	last := m.good
	m.checkAt, m.soonAt, m.checked, m.good = r.nextCheck(), time.Time{}, time.Now(), nil
	if ctx.Err() != nil {
		return
	}
	health, garbage := parseHealth(stdout)
	var said *spec.Error
	switch {
	case err == nil && garbage == nil:
		m.checkErrors, m.unknown = 0, unknownState{}
	case err == nil:
		r.noteUnknown(s, m, garbage)
		return
	case errors.As(err, &said) && said.Code != spec.CodeAgain && said.Code != spec.CodeInternal &&
		s.facts.Readable && s.facts.Units == UnitsGood:
		m.unknown = unknownState{}
		m.noteCheckError(said, time.Now(), min(r.settings.CheckInterval/10, errorPause))
		r.log.Warn("CHECK failed", "container", s.name, "error", err, "times", m.checkErrors)
		return
	default:
		r.noteUnknown(s, m, err)
		return
	}
	if health == nil {
		return
	}
	m.good = newGoodCheck(s, last)
	r.mu.Lock()
	defer r.mu.Unlock()
	m.noteHealth(health)
	r.applyPushedLocked(m) // what was pushed meanwhile is newer
	r.logAnswerLocked(s.name, m, false)
	r.report.Checked(record.Container.ContainerID, m.health.Connections)
}

// errorPause is the longest time for which a second error of CHECK does not count.
const errorPause = 6 * time.Second

// unknownWarnAfter is how long CHECK may not tell the state of a container before ps and a warning show it.
const unknownWarnAfter = 5 * time.Minute

// unknownState is since when, and why, CHECK does not tell the state of a container. The zero value means that it does.
type unknownState struct {
	since  time.Time
	reason string
	warned bool
}

// shown is what ps shows, "" if nothing yet.
func (u *unknownState) shown(now time.Time) string {
	if u.since.IsZero() || now.Sub(u.since) < unknownWarnAfter {
		return ""
	}
	return fmt.Sprintf("CHECK has not told the state of the container since %s: %s", u.since.UTC().Format(time.RFC3339), u.reason)
}

// noteUnknown notes a CHECK that did not tell the state. It counts for nothing.
func (r *Reconciler) noteUnknown(s *snapshot, m *memory, err error) {
	now := time.Now()
	m.unknown.reason = err.Error()
	if m.unknown.since.IsZero() {
		m.unknown.since = now
	}
	if text := m.unknown.shown(now); text != "" && !m.unknown.warned {
		m.unknown.warned = true
		r.log.Warn("state of the container unknown", "container", s.name, "since", m.unknown.since, "error", err)
		return
	}
	r.log.Warn("CHECK without an answer", "container", s.name, "error", err)
}

// parseHealth reads what CHECK printed; nothing is allowed.
func parseHealth(stdout []byte) (*spec.Health, error) {
	if len(bytes.TrimSpace(stdout)) == 0 {
		return nil, nil
	}
	health := new(spec.Health)
	if err := spec.Output("health", stdout, health); err != nil {
		return nil, err
	}
	if health.Code == "" {
		return nil, nil // some other output, which CNI allows
	}
	if err := health.Check(); err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	return health, nil
}
