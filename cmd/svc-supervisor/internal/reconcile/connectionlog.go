package reconcile

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/tokenbucket"
)

// changeLines bounds the log lines on the connections of one container: its daemon may push changes all the time.
type changeLines struct {
	bucket  tokenbucket.Bucket
	omitted int       // changes that were not logged since the last line on them
	noted   time.Time // when that line was logged
}

// take reports whether a change may be logged now. Every connection can go down and come up again at once; beyond
// that it is one line in 3 s.
func (l *changeLines) take(connections int, now time.Time) bool {
	if l.bucket.Take(tokenbucket.Limit{Every: 3 * time.Second, Burst: 20 + 2*connections}, now) {
		return true
	}
	l.omitted++
	return false
}

// due returns how many changes were omitted, at most once a minute; 0 is nothing to log.
func (l *changeLines) due(now time.Time) int {
	if l.omitted == 0 || now.Sub(l.noted) < time.Minute {
		return 0
	}
	count := l.omitted
	l.omitted, l.noted = 0, now
	return count
}

// fieldLimit is how many bytes of a string of the daemon a log line repeats.
const fieldLimit = 512

func shortened(s string) string {
	if len(s) <= fieldLimit {
		return s
	}
	return strings.ToValidUTF8(s[:fieldLimit], "") + "…"
}

// logPushedLocked logs what a push changes. While nothing is known of the container's connections all of it is news;
// later one that is not known was of a configuration before this one.
func (r *Reconciler) logPushedLocked(name spec.Name, m *memory, pushed []spec.Connection) {
	for _, c := range pushed {
		if _, known := m.logged[c.ID]; known || m.row.Health == nil {
			r.logConnectionLocked(name, m, c)
		}
	}
}

// logAnswerLocked logs what the answer of a verb changes, with what was pushed meanwhile over it. A connection that was not
// known before is no change, unless the verb made it and it is up.
func (r *Reconciler) logAnswerLocked(name spec.Name, m *memory, made bool) {
	r.logOmittedLocked(name, m)
	if m.health == nil {
		return
	}
	connections := m.health.With(m.pushed.connections).Connections
	for _, c := range connections {
		// What ADD has just made is not up yet, and has a reason only if it was refused.
		if _, known := m.logged[c.ID]; known || made && (c.Status == spec.Active || c.Reason != "" && !c.Disabled) {
			r.logConnectionLocked(name, m, c)
		} else {
			m.noteLogged(c)
		}
	}
	maps.DeleteFunc(m.logged, func(id string, _ spec.Connection) bool {
		return !slices.ContainsFunc(connections, func(c spec.Connection) bool { return c.ID == id })
	})
}

// logConnectionLocked logs a connection that is not as the log has it: up or down, or down for another reason. A push may
// not know the reason, which is no other one. A change that is above the limit of lines stays a change: the next
// CHECK tells it if it lasts. A connection that goes down, or that was refused, is a warning; one that its configuration keeps down
// is none.
func (r *Reconciler) logConnectionLocked(name spec.Name, m *memory, c spec.Connection) {
	was := m.logged[c.ID]
	c.Name, c.Peer = cmp.Or(c.Name, was.Name), cmp.Or(c.Peer, was.Peer)
	if c.Status == was.Status {
		c.Reason = cmp.Or(c.Reason, was.Reason)
	}
	if c.Status == was.Status && (c.Status == spec.Active || c.Reason == was.Reason) {
		m.noteLogged(c)
		return
	}
	known := 0
	for _, h := range []*spec.Health{m.row.Health, m.health} {
		if h != nil {
			known = max(known, len(h.Connections))
		}
	}
	if !m.lines.take(known, time.Now()) {
		r.logOmittedLocked(name, m)
		return
	}
	m.noteLogged(c)
	message, level := "connection down", slog.LevelWarn
	if c.Status == spec.Active {
		message = "connection up"
	}
	if c.Status == spec.Active || c.Disabled {
		level = slog.LevelInfo
	}
	fields := []any{"container", name, "connection", shortened(c.ID)}
	for _, field := range [][2]string{{"name", c.Name}, {"peer", c.Peer}, {"reason", c.Reason}} {
		if field[1] != "" {
			fields = append(fields, field[0], shortened(field[1]))
		}
	}
	r.log.Log(context.Background(), level, message, fields...)
}

// logOmittedLocked logs how many changes were not logged.
func (r *Reconciler) logOmittedLocked(name spec.Name, m *memory) {
	if count := m.lines.due(time.Now()); count > 0 {
		r.log.Warn("connection changes not logged", "container", name, "count", count)
	}
}

func (m *memory) noteLogged(c spec.Connection) {
	if m.logged == nil {
		m.logged = map[string]spec.Connection{}
	}
	m.logged[c.ID] = c
}
