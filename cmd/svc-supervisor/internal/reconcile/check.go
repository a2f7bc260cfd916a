package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// checker runs CHECK.
type checker struct {
	verbs       *verbs
	checks      *checkSchedule
	connections connectionLog
	memories    *memories
	report      interface {
		ReplaceConnections(spec.ContainerID, []spec.Connection)
	}
	log *slog.Logger
}

// check runs CHECK. CHECK has three answers: the container is good, it is broken, or its state is not known. Only
// *broken* counts as a failure, and only two such answers without a good one in between lead to DEL. A deadline, a
// signal and unexpected output mean that the state is not known. The same holds for code 11, and for code 999, with
// which svc-ipsec 0.1.0 answered every error. It also holds for every answer while systemd or the namespaces cannot be
// read, or while a unit starts or stops.
func (c *checker) check(ctx context.Context, s *snapshot, m *memory) {
	record := s.Record()
	stdout, err := c.verbs.run(ctx, spec.Check, s.ForRecorded, record)
	last := m.checks.good
	m.checks.at, m.checks.extraAt, m.checks.ended, m.checks.good = c.checks.next(), time.Time{}, time.Now(), nil
	if ctx.Err() != nil {
		return
	}
	health, parseErr := spec.ParseHealth(stdout)
	var answer *spec.Error
	switch {
	case err == nil && parseErr == nil:
		m.checks.errors, m.checks.unknown = 0, unknownState{}
	case err == nil:
		c.noteUnknown(s, m, parseErr)
		return
	case errors.As(err, &answer) && answer.Code != spec.CodeAgain && answer.Code != spec.CodeInternal &&
		s.Facts.Readable && s.Facts.Units == decide.UnitsGood:
		m.checks.unknown = unknownState{}
		m.checks.noteError(answer, time.Now(), min(c.checks.interval/10, errorPause), c.checks.next())
		c.log.Warn("CHECK failed", "container", s.Name, "error", err, "times", m.checks.errors)
		return
	default:
		c.noteUnknown(s, m, err)
		return
	}
	if health == nil {
		return
	}
	m.checks.good = newGoodCheck(s, last)
	c.memories.mu.Lock()
	defer c.memories.mu.Unlock()
	m.noteHealthLocked(health)
	m.applyPushedLocked() // a push during CHECK is newer than its answer
	c.connections.answerLocked(s.Name, m, false)
	c.report.ReplaceConnections(record.Container.ContainerID, m.health.Connections)
}

// errorPause is the longest time after an error of CHECK during which another error does not count as the second one.
const errorPause = 6 * time.Second

// unknownWarnAfter is how long the state of a container must be unknown to CHECK before ps and a warning show it.
const unknownWarnAfter = 5 * time.Minute

// unknownState holds since when, and why, CHECK cannot determine the state of a container. The zero value means that it
// can.
type unknownState struct {
	since  time.Time
	reason string
	warned bool
}

// shown returns the reason for ps, or "" if the state has been unknown for less than unknownWarnAfter.
func (u *unknownState) shown(now time.Time) string {
	if u.since.IsZero() || now.Sub(u.since) < unknownWarnAfter {
		return ""
	}
	return fmt.Sprintf("state unknown to CHECK since %s: %s",
		u.since.UTC().Format(time.RFC3339), u.reason)
}

// noteUnknown records a CHECK that could not determine the state. It does not count as an error of CHECK.
func (c *checker) noteUnknown(s *snapshot, m *memory, err error) {
	now := time.Now()
	m.checks.unknown.reason = err.Error()
	if m.checks.unknown.since.IsZero() {
		m.checks.unknown.since = now
	}
	if text := m.checks.unknown.shown(now); text != "" && !m.checks.unknown.warned {
		m.checks.unknown.warned = true
		c.log.Warn("state of the container unknown", "container", s.Name, "since", m.checks.unknown.since, "error", err)
		return
	}
	c.log.Warn("container state unknown to CHECK", "container", s.Name, "error", err)
}
