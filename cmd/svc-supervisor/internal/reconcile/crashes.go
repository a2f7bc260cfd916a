package reconcile

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

const (
	// crashWindow is the time within which crashLimit failures of a container's daemons are published as ERROR.
	crashWindow = 10 * time.Minute
	crashLimit  = 5
	// crashPause is how long the container must run without a failure before it counts as stable again.
	crashPause = time.Minute
)

// crashes is what is remembered of the failures of a container: those of its daemons after which systemd starts them again, and those
// after which the container is made anew. A container that fails again and again makes one stable state: it is published as RUNNING with a message, and
// after crashLimit failures within crashWindow as ERROR, until the container has run for crashPause without a failure. The status does
// not follow each start and each failure. Only the container's worker uses it.
type crashes struct {
	restarts map[string]int    // systemd's NRestarts by unit, as last seen; nil: not seen yet
	exits    map[string]string // how a unit ended that systemd is about to start again
	before   int               // restarts of units that were removed since, and of the container itself
	times    []time.Time       // the failures, as many as crashLimit at most
	text     string            // the last failure, for the reason
	healed   bool              // the last failure ended with DEL and ADD
	upSince  time.Time         // since when the container has run; zero: it does not
	isError  bool              // it is published as ERROR
}

// note notes a failure. It returns how many there were within crashWindow.
func (c *crashes) note(text string, healed bool, now time.Time) int {
	c.times = append(c.times, now)
	if len(c.times) > crashLimit {
		c.times = c.times[1:]
	}
	c.text, c.healed, c.upSince = text, healed, time.Time{}
	count := c.count(now)
	c.isError = c.isError || count >= crashLimit
	return count
}

func (c *crashes) count(now time.Time) int {
	count := 0
	for _, at := range c.times {
		if now.Sub(at) < crashWindow {
			count++
		}
	}
	return count
}

// up notes that the container runs.
func (c *crashes) up(now time.Time) {
	if c.upSince.IsZero() {
		c.upSince = now
	}
	if until := c.stableAt(); !until.IsZero() && !now.Before(until) {
		c.text, c.isError = "", false
	}
}

// stableAt is when the container counts as stable again if nothing fails until then. Zero: it does already, or it does not run.
func (c *crashes) stableAt() time.Time {
	if c.text == "" || c.upSince.IsZero() {
		return time.Time{}
	}
	return later(c.upSince, c.times[len(c.times)-1]).Add(crashPause)
}

// loops reports whether the container fails again and again. One failure after which the container was made anew is none: STARTING and
// RUNNING tell it.
func (c *crashes) loops() bool {
	return c.text != "" && (!c.healed || c.isError || len(c.times) > 1 && c.times[len(c.times)-1].Sub(c.times[len(c.times)-2]) < crashWindow)
}

// reason is the message of the status and the reason in ps, "" if the container is stable.
func (c *crashes) reason() string {
	if !c.loops() {
		return ""
	}
	// The text of a loop that goes on does not change, so that its status is not published again and again.
	if c.isError {
		return fmt.Sprintf("%s (%d or more failures within %v)", c.text, crashLimit, crashWindow)
	}
	return fmt.Sprintf("%s (failures within %v: %d)", c.text, crashWindow, c.count(c.times[len(c.times)-1]))
}

// total is how often systemd started a daemon again, or the supervisor made the container anew.
func (c *crashes) total() int {
	total := c.before
	for n := range maps.Values(c.restarts) {
		total += n
	}
	return total
}

// removed notes that the units are removed: those of the next ADD count from 0.
func (c *crashes) removed(healed bool) {
	c.before = c.total()
	if healed {
		c.before++
	}
	c.restarts, c.exits, c.upSince = nil, nil, time.Time{}
}

// noteRestarts notes the units that systemd has started again since the last look. The first look after the start of the supervisor
// only notes how often that was before: it is not known when.
func (r *Reconciler) noteRestarts(ctx context.Context, s *snapshot, m *memory) {
	record := s.record()
	if record == nil || !s.facts.runs() || !s.facts.Readable {
		return
	}
	c := &m.crashes
	for _, name := range record.Units() {
		if stateOf(name, s.units) == UnitsGone { // systemd has forgotten how often it started it
			continue
		}
		if subState(name, s.units) == "auto-restart" { // systemd forgets how it ended when it starts it
			if details, err := r.units.Show(ctx, name); err == nil && details.Exit.Failed() {
				c.noteExit(name, details.Exit.String())
			}
		}
		restarts, err := r.units.Restarts(ctx, name)
		if err != nil {
			continue // unknown
		}
		was, known := c.restarts[name]
		if c.restarts == nil {
			c.restarts = map[string]int{}
		}
		c.restarts[name] = restarts
		if restarts < was { // a person restarted the unit, and systemd counts anew
			was = 0
		}
		if !known && m.added.IsZero() { // an earlier supervisor made it
			continue
		}
		for range min(restarts-was, crashLimit) {
			r.noteCrash(ctx, s, m, name, c.exits[name], false)
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

func subState(name string, units []unit.Unit) string {
	for _, u := range units {
		if u.Name == name {
			return u.SubState
		}
	}
	return ""
}

// noteCrash logs and notes one failure of a unit. exit is how it ended, "" if that is not known.
func (r *Reconciler) noteCrash(ctx context.Context, s *snapshot, m *memory, name, exit string, healed bool) {
	text := name + " failed"
	if exit != "" {
		text += ": " + exit
	}
	if line := r.units.LastLine(ctx, name); line != "" {
		text += ": " + shortened(line)
	}
	r.log.Warn("daemon failed", "container", s.name, "type", s.serviceType(), "unit", name, "reason", text)
	r.noteFailure(s, m, text, healed)
}

// noteFailure notes one failure of a container, and logs when it becomes ERROR.
func (r *Reconciler) noteFailure(s *snapshot, m *memory, text string, healed bool) {
	was := m.crashes.isError
	failures := m.crashes.note(text, healed, s.now)
	if m.crashes.isError && !was {
		r.log.Warn("container keeps failing, published as ERROR", "container", s.name, "type", s.serviceType(), "reason", text,
			"failures", failures, "within", crashWindow, "untilStableFor", crashPause)
	}
}

// reportUnstable reports a container that fails again and again. It returns false for any other.
func (r *Reconciler) reportUnstable(s *snapshot, m *memory) bool {
	reason := m.crashes.reason()
	if reason == "" {
		return false
	}
	c := s.container()
	if s.claim.binding != nil {
		c = s.claim.binding.Container
	}
	r.publish(c, m)
	r.report.Unstable(c, reason, m.crashes.isError)
	return true
}
