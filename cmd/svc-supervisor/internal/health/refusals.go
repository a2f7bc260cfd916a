package health

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// quiet is the time between two log lines with the same key.
const quiet = time.Minute

// The log messages about datagrams that are not accepted.
const (
	refused = "pushed health refused"
	dropped = "pushed health dropped"
)

// refusal is the key by which datagrams are counted and logged. container is the container that the sender belongs to.
// It is "" for senders that belong to none, because these could name any number of containers.
type refusal struct {
	container spec.Name
	message   string
}

// refusals logs datagrams that are not accepted. For each key it logs the first one at once, and then once a minute the
// number of further ones.
type refusals struct {
	log     *slog.Logger
	tallies map[refusal]*tally
}

type tally struct {
	count     int       // since the last log line
	container spec.Name // of the last datagram; "" if unknown
	err       error
	logged    time.Time
}

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{log: log, tallies: map[refusal]*tally{}}
}

// add counts a datagram that was not accepted. container is for the log: the container of the sender, or the one that
// the datagram names if the sender may push for all containers, or "" if it is unknown.
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

// due returns the time when report has to be called next. It is zero if there is nothing to report.
func (r *refusals) due() time.Time {
	var first time.Time
	for _, t := range r.tallies {
		if at := t.logged.Add(quiet); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// report logs the counts that are due, and deletes the keys without a new datagram since the last log line.
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

// reportAll logs all counts above 0, whether due or not.
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
