package reconcile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// tellPushedLocked logs what a push changes. While nothing is known of the container's connections all of it is news;
// later one that is not known was of a configuration before this one.
func (r *Reconciler) tellPushedLocked(name spec.Name, m *memo, pushed []spec.Connection) {
	for _, c := range pushed {
		if _, known := m.told[c.ID]; known || m.row.Health == nil {
			r.tellLocked(name, m, c)
		}
	}
}

// tellAnswerLocked logs what the answer of a verb changes, with what was pushed meanwhile over it. A connection that was not
// known before is no change, unless the verb made it and it is up.
func (r *Reconciler) tellAnswerLocked(name spec.Name, m *memo, made bool) {
	if m.health == nil {
		return
	}
	connections := m.health.With(m.pushed.connections).Connections
	for _, c := range connections {
		if _, known := m.told[c.ID]; known || made && c.Status == spec.Active {
			r.tellLocked(name, m, c)
		} else {
			m.noteTold(c)
		}
	}
	maps.DeleteFunc(m.told, func(id string, _ spec.Connection) bool {
		return !slices.ContainsFunc(connections, func(c spec.Connection) bool { return c.ID == id })
	})
}

// tellLocked logs a connection that is not as the log has it: up or down, or down for another reason. A push may not know
// the reason, which is no other one.
func (r *Reconciler) tellLocked(name spec.Name, m *memo, c spec.Connection) {
	was := m.told[c.ID]
	c.Name, c.Peer = cmp.Or(c.Name, was.Name), cmp.Or(c.Peer, was.Peer)
	if c.Status == was.Status {
		c.Reason = cmp.Or(c.Reason, was.Reason)
	}
	m.noteTold(c)
	if c.Status == was.Status && (c.Status == spec.Active || c.Reason == was.Reason) {
		return
	}
	message := "connection down"
	if c.Status == spec.Active {
		message = "connection up"
	}
	fields := []any{"container", name, "connection", c.ID}
	for _, field := range [][2]string{{"name", c.Name}, {"peer", c.Peer}, {"reason", c.Reason}} {
		if field[1] != "" {
			fields = append(fields, field[0], field[1])
		}
	}
	r.log.Info(message, fields...)
}

func (m *memo) noteTold(c spec.Connection) {
	if m.told == nil {
		m.told = map[string]spec.Connection{}
	}
	m.told[c.ID] = c
}
