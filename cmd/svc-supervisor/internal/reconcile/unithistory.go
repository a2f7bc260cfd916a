package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// unitHistory asks systemd why and how often the units of a container failed, and since when they run. It stores that
// in the memory of the name. Only the worker of the name calls it.
type unitHistory struct {
	units interface {
		Show(ctx context.Context, unit string) (unit.Details, error)
		Restarts(ctx context.Context, unit string) (int, error)
		LastLine(ctx context.Context, unit string) string
	}
	log *slog.Logger
}

// noteRestarts records the units that systemd has restarted since the last call. The first call after a start of the
// supervisor only stores the counters, because it is unknown when those restarts happened.
func (h *unitHistory) noteRestarts(ctx context.Context, s *snapshot, m *memory) {
	record := s.Record()
	if record == nil || !s.Facts.Runs() || !s.Facts.HostKnown() {
		return
	}
	c := &m.crashes
	for _, name := range record.Units() {
		if s.UnitState(name) == decide.UnitsGone { // systemd has discarded the counter of the unit
			continue
		}
		if s.UnitSubState(name) == "auto-restart" { // systemd discards the exit reason when it starts the unit
			if details, err := h.units.Show(ctx, name); err == nil && details.Exit.Failed() {
				c.noteExit(name, details.Exit.String())
			}
		}
		restarts, err := h.units.Restarts(ctx, name)
		if err != nil {
			continue // the counter is unknown
		}
		was, known := c.restarts[name]
		if c.restarts == nil {
			c.restarts = map[string]int{}
		}
		c.restarts[name] = restarts
		if restarts < was { // an operator restarted the unit, which resets the counter
			was = 0
		}
		if !known && !m.life.createdHere { // an earlier supervisor created the container
			continue
		}
		for range min(restarts-was, crashLimit) {
			h.noteCrash(ctx, s, m, name, c.exits[name], false)
		}
		if restarts > was {
			delete(c.exits, name)
		}
	}
}

func (c *crashes) noteExit(unit, exit string) {
	if c.exits == nil {
		c.exits = map[string]string{}
	}
	c.exits[unit] = exit
}

// noteCrash logs and records one failure of a unit. exit describes how the unit ended, "" if that is unknown.
func (h *unitHistory) noteCrash(ctx context.Context, s *snapshot, m *memory, name, exit string, healed bool) {
	text := name + " failed"
	if exit != "" {
		text += ": " + exit
	}
	if line := h.units.LastLine(ctx, name); line != "" {
		text += ": " + shortened(line)
	}
	h.log.Warn("daemon failed", "container", s.Name, "type", s.ServiceType(), "unit", name, "reason", text)
	h.noteFailure(s, m, text, healed)
}

// noteFailure records one failure of a container. It logs when the container becomes ERROR.
func (h *unitHistory) noteFailure(s *snapshot, m *memory, text string, healed bool) {
	was := m.crashes.isError
	failures := m.crashes.note(text, healed, s.now)
	if m.crashes.isError && !was {
		h.log.Warn("container keeps failing, published as ERROR",
			"container", s.Name, "type", s.ServiceType(), "reason", text,
			"failures", failures, "within", crashWindow, "untilStableFor", crashPause)
	}
}

// noteAge stores since when a container runs that an earlier supervisor added.
func (h *unitHistory) noteAge(ctx context.Context, s *snapshot, m *memory) {
	record := s.Record()
	if record == nil || record.AddedAt == nil || !s.Facts.Runs() || !s.Facts.HostKnown() ||
		!m.life.runningSince.IsZero() {
		return
	}
	var daemon unit.Details
	if units := record.Units(); len(units) > 0 {
		daemon, _ = h.units.Show(ctx, units[0])
	}
	now := time.Now()
	m.life.runningSince = now.Add(-Age(*record.AddedAt, daemon, now))
}

// brokenReason describes in one line why a container counts as Broken: namespace, unit or CHECK.
func (h *unitHistory) brokenReason(ctx context.Context, s *snapshot, m *memory) string {
	switch s.Facts.Namespace {
	case decide.NoNamespace:
		return fmt.Sprintf("namespace %s is gone", s.Name)
	case decide.NamespaceForeign:
		return fmt.Sprintf("namespace %s is not ours", s.Name)
	}
	for _, name := range s.Record().Units() {
		switch state := s.UnitState(name); {
		case state != s.Facts.Units:
		case state == decide.UnitsFailed:
			return name + " failed" + h.exitReason(ctx, name)
		case state == decide.UnitsGone:
			return name + " is gone"
		}
	}
	return "CHECK failed twice: " + m.checks.lastError
}

// exitReason returns why a unit failed according to systemd, with a leading colon, or "" if systemd gives no reason.
func (h *unitHistory) exitReason(ctx context.Context, name string) string {
	details, err := h.units.Show(ctx, name)
	if err != nil || !details.Exit.Failed() {
		return ""
	}
	return ": " + details.Exit.String()
}
