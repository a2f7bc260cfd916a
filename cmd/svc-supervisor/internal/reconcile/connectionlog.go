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

// changeLines limits the number of log lines about connections of one container, because its daemon may push changes
// without end.
type changeLines struct {
	bucket  tokenbucket.Bucket
	omitted int       // changes that were not logged since the last line about omitted changes
	noted   time.Time // when that line was logged
}

// take reports whether a change may be logged now. Each connection may go down and come up once without delay; beyond
// that one line in 3 s is allowed.
func (l *changeLines) take(connections int, now time.Time) bool {
	if l.bucket.Take(tokenbucket.Limit{Every: 3 * time.Second, Burst: 20 + 2*connections}, now) {
		return true
	}
	l.omitted++
	return false
}

// due returns the number of omitted changes, at most once a minute. It returns 0 if there is nothing to log.
func (l *changeLines) due(now time.Time) int {
	if l.omitted == 0 || now.Sub(l.noted) < time.Minute {
		return 0
	}
	count := l.omitted
	l.omitted, l.noted = 0, now
	return count
}

// fieldLimit is the largest number of bytes of a string from the daemon that a log line contains.
const fieldLimit = 512

func shortened(s string) string {
	if len(s) <= fieldLimit {
		return s
	}
	return strings.ToValidUTF8(s[:fieldLimit], "") + "…"
}

// connectionLog logs the changes of the containers' connections. What was logged last is in the memory of the name,
// whose lock its methods need.
type connectionLog struct{ log *slog.Logger }

// pushedLocked logs the changes of a push. A connection that is not known belongs to an earlier configuration and is
// ignored, unless no connection of the container is known yet.
func (l *connectionLog) pushedLocked(name spec.Name, m *memory, pushed []spec.Connection) {
	for _, c := range pushed {
		if _, known := m.shared.logged[c.ID]; known || m.shared.row.Health == nil {
			l.connectionLocked(name, m, c)
		}
	}
}

// answerLocked logs the changes in the answer of a verb, after applying what was pushed during the verb. A
// connection that was not known before is logged only if the verb created it and it is up or refused. made reports that
// the verb created connections.
func (l *connectionLog) answerLocked(name spec.Name, m *memory, made bool) {
	l.omittedLocked(name, m)
	if m.health == nil {
		return
	}
	connections := m.health.With(m.shared.pushed.connections).Connections
	for _, c := range connections {
		// A connection that ADD has just created is not up yet, and has a reason only if it was refused.
		if _, known := m.shared.logged[c.ID]; known ||
			made && (c.Status == spec.Active || c.Reason != "" && !c.Disabled) {
			l.connectionLocked(name, m, c)
		} else {
			m.noteLoggedLocked(c)
		}
	}
	maps.DeleteFunc(m.shared.logged, func(id string, _ spec.Connection) bool {
		return !slices.ContainsFunc(connections, func(c spec.Connection) bool { return c.ID == id })
	})
}

// connectionLocked logs a connection that went up or down, or that is down for another reason than the logged one. A
// push may omit the reason; then the logged reason counts as unchanged. A change that the limit of lines suppresses is
// logged by the next CHECK if it lasts. The level is warning for a connection that goes down or was refused, but info
// for one that its configuration keeps down.
func (l *connectionLog) connectionLocked(name spec.Name, m *memory, c spec.Connection) {
	was := m.shared.logged[c.ID]
	c.Name, c.Peer = cmp.Or(c.Name, was.Name), cmp.Or(c.Peer, was.Peer)
	if c.Status == was.Status {
		c.Reason = cmp.Or(c.Reason, was.Reason)
	}
	if c.Status == was.Status && (c.Status == spec.Active || c.Reason == was.Reason) {
		m.noteLoggedLocked(c)
		return
	}
	known := 0
	for _, h := range []*spec.Health{m.shared.row.Health, m.health} {
		if h != nil {
			known = max(known, len(h.Connections))
		}
	}
	if !m.shared.lines.take(known, time.Now()) {
		l.omittedLocked(name, m)
		return
	}
	m.noteLoggedLocked(c)
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
	l.log.Log(context.Background(), level, message, fields...)
}

// omittedLocked logs the number of changes that were not logged.
func (l *connectionLog) omittedLocked(name spec.Name, m *memory) {
	if count := m.shared.lines.due(time.Now()); count > 0 {
		l.log.Warn("connection changes not logged", "container", name, "count", count)
	}
}

func (m *memory) noteLoggedLocked(c spec.Connection) {
	if m.shared.logged == nil {
		m.shared.logged = map[string]spec.Connection{}
	}
	m.shared.logged[c.ID] = c
}
