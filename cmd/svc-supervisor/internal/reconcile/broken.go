package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
)

// brokenReason describes in one line why a container counts as Broken: namespace, unit or CHECK.
func (r *Reconciler) brokenReason(ctx context.Context, s *snapshot, m *memory) string {
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
			return name + " failed" + r.exitReason(ctx, name)
		case state == decide.UnitsGone:
			return name + " is gone"
		}
	}
	return "CHECK failed twice: " + m.checkError
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
		text += ": " + s.Leftover + " is still there"
	case step == decide.AddAgain && s.Facts.AgainDue:
		text += ": the executable asks for it at once"
	}
	return errors.New(text)
}
