package reconcile

import (
	"fmt"
	"maps"
	"time"
)

const (
	// crashWindow is the period in which crashLimit failures of a container are published as ERROR.
	crashWindow = 10 * time.Minute
	crashLimit  = 5
	// crashPause is how long a container must run without a failure until it counts as stable again.
	crashPause = time.Minute
)

// crashes holds the failures of a container: failures of its daemons after which systemd restarts them, and failures
// after which the supervisor recreates the container. A container that fails repeatedly is published with one stable
// status: RUNNING with a message, and after crashLimit failures within crashWindow ERROR, until the container has run
// for crashPause without a failure. So the status does not change with each start and each failure. Only the
// container's worker uses it.
type crashes struct {
	restarts map[string]int    // systemd's NRestarts by unit when it was last read; nil: not read yet
	exits    map[string]string // how a unit ended that systemd is about to restart
	before   int               // restarts of units that were removed since, and recreations of the container
	times    []time.Time       // times of the last failures, at most crashLimit
	text     string            // description of the last failure
	healed   bool              // the last failure led to DEL and ADD
	upSince  time.Time         // since when the container runs; zero: it does not run
	isError  bool              // the container is published as ERROR
}

// note records a failure. It returns the number of failures within crashWindow.
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

// up records that the container runs.
func (c *crashes) up(now time.Time) {
	if c.upSince.IsZero() {
		c.upSince = now
	}
	if until := c.stableAt(); !until.IsZero() && !now.Before(until) {
		c.text, c.isError = "", false
	}
}

// stableAt returns when the container counts as stable again if nothing fails until then. It returns zero if the
// container is stable already or does not run.
func (c *crashes) stableAt() time.Time {
	if c.text == "" || c.upSince.IsZero() {
		return time.Time{}
	}
	return later(c.upSince, c.times[len(c.times)-1]).Add(crashPause)
}

// loops reports whether the container fails repeatedly. A single failure after which the container was recreated does
// not count, because STARTING and RUNNING are published for it.
func (c *crashes) loops() bool {
	if c.text == "" {
		return false
	}
	last := len(c.times) - 1
	return !c.healed || c.isError || last > 0 && c.times[last].Sub(c.times[last-1]) < crashWindow
}

// reason returns the message for the status and for ps, or "" if the container is stable.
func (c *crashes) reason() string {
	if !c.loops() {
		return ""
	}
	// The text stays the same while the failures continue, so that the status is not published again and again.
	if c.isError {
		return fmt.Sprintf("%s (%d or more failures within %v)", c.text, crashLimit, crashWindow)
	}
	return fmt.Sprintf("%s (failures within %v: %d)", c.text, crashWindow, c.count(c.times[len(c.times)-1]))
}

// total returns how often systemd has restarted a daemon of the container or the supervisor has recreated the
// container.
func (c *crashes) total() int {
	total := c.before
	for n := range maps.Values(c.restarts) {
		total += n
	}
	return total
}

// removed records that the units are removed. systemd counts the restarts of the next ADD's units from 0.
func (c *crashes) removed(healed bool) {
	c.before = c.total()
	if healed {
		c.before++
	}
	c.restarts, c.exits, c.upSince = nil, nil, time.Time{}
}
