package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
)

// brokenReason describes in one line why a container counts as Broken: namespace, unit or CHECK.
func (r *Reconciler) brokenReason(ctx context.Context, s *snapshot, m *memory) string {
	switch s.facts.Namespace {
	case decide.NoNamespace:
		return fmt.Sprintf("namespace %s is gone", s.name)
	case decide.NamespaceForeign:
		return fmt.Sprintf("namespace %s is not ours", s.name)
	}
	for _, name := range s.record().Units() {
		switch state := stateOf(name, s.units); {
		case state != s.facts.Units:
		case state == decide.UnitsFailed:
			return name + " failed" + r.exitReason(ctx, name)
		case state == decide.UnitsGone:
			return name + " is gone"
		}
	}
	return "CHECK failed twice: " + m.checkError
}

// failedUnit returns the first unit that systemd has given up restarting, or "" if there is none.
func (s *snapshot) failedUnit() string {
	if s.record() == nil || s.facts.Units != decide.UnitsFailed {
		return ""
	}
	for _, name := range s.record().Units() {
		if stateOf(name, s.units) == decide.UnitsFailed {
			return name
		}
	}
	return ""
}

// exitReason returns why a unit failed according to systemd, with a leading colon, or "" if systemd gives no reason.
func (r *Reconciler) exitReason(ctx context.Context, name string) string {
	details, err := r.units.Show(ctx, name)
	if err != nil || !details.Exit.Failed() {
		return ""
	}
	return ": " + details.Exit.String()
}

// noEffect returns the error for a step that succeeded repeatLimit times in a row and is still asked for.
func (s *snapshot) noEffect(step decide.Step) error {
	text := fmt.Sprintf("%v was taken %d times without effect", step, repeatLimit)
	switch {
	case step == decide.Clean:
		text += ": " + s.leftover + " is still there"
	case step == decide.AddAgain && s.facts.AgainDue:
		text += ": the executable asks for it at once"
	}
	return errors.New(text)
}
