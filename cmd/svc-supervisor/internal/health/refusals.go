package health

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// quiet is the time between two log lines on one refusal.
const quiet = time.Minute

// The log messages for datagrams that are not accepted.
const (
	refused = "pushed health refused"
	dropped = "pushed health dropped"
)

// refusal is what log lines are counted by. The container is the one that the sender belongs to, and "" for other
// senders: they could name any number of containers.
type refusal struct {
	container spec.Name
	message   string
}

// refusals logs the first datagram that is refused at once, and those that follow as a count once a minute.
type refusals struct {
	log     *slog.Logger
	tallies map[refusal]*tally
}

type tally struct {
	count     int       // since the last log line
	container spec.Name // of the last datagram; "" if it is not known
	err       error
	logged    time.Time
}

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{log: log, tallies: map[refusal]*tally{}}
}

// add counts a datagram that was not accepted. container is for the log: the sender's, or the one that the datagram names if the
// sender may push for all, or "" if it is not known.
func (r *refusals) add(key refusal, container spec.Name, err error, now time.Time) {
	t := r.tallies[key]
	if t == nil {
		t = new(tally)
		r.tallies[key] = t
	}
	t.count++
	t.container, t.err = container, err
	if now.Sub(t.logged) >= quiet {
		r.write(key, t, now)
	}
}

// due returns when report has something to do; zero is never.
func (r *refusals) due() time.Time {
	var first time.Time
	for _, t := range r.tallies {
		if at := t.logged.Add(quiet); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// report logs the counts that are due, and forgets the refusals that did not happen again.
func (r *refusals) report(now time.Time) {
	for _, key := range r.keys() {
		switch t := r.tallies[key]; {
		case now.Sub(t.logged) < quiet:
		case t.count == 0:
			delete(r.tallies, key)
		default:
			r.write(key, t, now)
		}
	}
}

// reportAll logs every count.
func (r *refusals) reportAll() {
	for _, key := range r.keys() {
		if t := r.tallies[key]; t.count > 0 {
			r.write(key, t, time.Now())
		}
	}
}

func (r *refusals) keys() []refusal {
	return slices.SortedFunc(maps.Keys(r.tallies), func(a, b refusal) int {
		return strings.Compare(string(a.container)+" "+a.message, string(b.container)+" "+b.message)
	})
}

func (r *refusals) write(key refusal, t *tally, now time.Time) {
	log := r.log
	if t.container != "" {
		log = log.With("container", t.container)
	}
	log.Warn(key.message, "error", t.err, "count", t.count)
	t.count, t.logged = 0, now
}
