package reconcile

import (
	"cmp"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
)

// show stores the row of a name for Rows.
func (w *worker) show(s *snapshot, m *memory, d decide.Decision) {
	row := Row{Name: s.Name, Type: s.ServiceType(), Health: m.health, Hold: d.Hold, Reason: reason(w.desired, s, m, d)}
	if b := s.Claim.Binding; b != nil {
		row.PortID, row.ContainerID = b.PortID, b.Container.ContainerID
	}
	if record := s.Record(); record != nil {
		row.Version, row.Units, row.AddedAt = record.Executable.Version, record.Units(), record.AddedAt
		row.PortID, row.ContainerID = record.Container.PortID, record.Container.ContainerID
	}
	if s.Claim.Refused != "" && row.Reason != s.Claim.Refused {
		row.Reason = joinReasons(row.Reason, editRefused+s.Claim.Refused)
	}
	if row.Reason == "" {
		row.Reason = cmp.Or(m.retries.reason(d.Step), m.crashes.reason(), m.checks.unknown.shown(s.now))
	}
	if row.Reason == "" {
		row.Reason = strings.Join(m.notes, "; ")
	}
	row.Restarts, row.RestartsKnown = m.crashes.total(), m.crashes.restarts != nil
	row.runningSince = m.life.runningSince
	switch {
	case d.Hold.Unknown() || s.Claim.Refused != "" && d.Step == decide.None:
		row.Status = RowUnknown
	case d.Step == decide.Delete || d.Step == decide.Clean:
		row.Status = RowStopping
	case s.Facts.Runs() || d.Step == decide.Reconfigure: // of a damaged record
		row.Status = RowRunning
	case d.Step == decide.Add:
		row.Status = RowStarting
	case d.Hold != decide.NotHeld:
		row.Status = RowHeld
	default:
		row = Row{} // neither wanted nor present
	}
	runs := row.Status == RowRunning || row.Status == RowUnknown && s.Facts.Runs()
	w.memories.setRow(m, row, runs)
}

// editRefused is the prefix of the reason for a container that runs with its last valid configuration.
const editRefused = "edit refused: "

func joinReasons(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// logHeld logs a hold when it begins and when its reason changes.
func (w *worker) logHeld(s *snapshot, m *memory, d decide.Decision) {
	text := ""
	if d.Hold != decide.NotHeld && d.Hold != decide.HeldBackOff { // the failure was logged together with its delay
		text = reason(w.desired, s, m, d)
	}
	if text == notReadYet || d.PluginMayBeFound(&s.Facts) {
		return // this is normal at every start
	}
	if text == m.heldLogged {
		return
	}
	m.heldLogged = text
	if text == "" {
		return
	}
	fields := []any{"container", s.Name, "reason", text}
	if d.Hold == decide.HeldSlot {
		host, status := w.desired.hostStatus()
		fields = append(fields, "weight", host.Weight, "limit", host.Limit, "count", status.Count)
	}
	w.log.Warn("container held", fields...)
}
