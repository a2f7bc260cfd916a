package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// remover removes containers.
type remover struct {
	records recordWriter
	removal removal
	history unitHistory
	plugins interface {
		List() ([]plugin.Executable, []plugin.Refusal)
	}
	desired  *desired
	memories *memories
	statuses *statuses
	host     *hostReport
	held     heldNames
	failures failures
	log      *slog.Logger
	logs     func(spec.ServiceType) *slog.Logger // returns the logger of a service type
}

// remove removes a container. It writes the record with phase `deleting` first, then runs DEL, and removes the units
// that are left and the namespace. It removes the record last, so that after a crash at any point the removal starts
// again.
func (r *remover) remove(ctx context.Context, s *snapshot, m *memory, d decide.Decision) {
	record := s.Record()
	c := s.Container()
	stillWanted := s.Facts.IsWanted()
	if d.Condition == decide.Broken {
		m.retries.broken = r.history.brokenReason(ctx, s, m)
		if stillWanted && m.retries.failure[decide.Delete] == "" {
			if failed := s.FailedUnit(); failed != "" {
				reason := strings.TrimPrefix(r.history.exitReason(ctx, failed), ": ")
				r.history.noteCrash(ctx, s, m, failed, reason, true)
			} else if s.Facts.CheckFailed && s.Facts.Namespace == decide.NamespaceOurs &&
				s.Facts.Units != decide.UnitsGone {
				// missing resources are no failure: an operator stopped or removed them
				r.history.noteFailure(s, m, m.retries.broken, true)
			}
		}
	}
	if record == nil {
		r.logs(c.ServiceType).Warn("remove the container of a damaged record",
			"container", s.Name, "error", s.RecordProblem)
	} else {
		attributes := append(fields(c), "rule", d.Rule)
		level := slog.LevelInfo
		if d.Condition == decide.Broken {
			level = slog.LevelWarn
			attributes = append(attributes, "reason", m.retries.broken)
		}
		r.logs(c.ServiceType).Log(ctx, level, "delete container for port binding", attributes...)
	}
	if stillWanted && m.life.downSince.IsZero() {
		m.life.downSince = time.Now()
	}
	r.statuses.publish(s, m, d, decide.StepBegins, nil)
	if record != nil && record.Phase != statedir.Deleting {
		deleting := *record
		deleting.Phase, deleting.Previous = statedir.Deleting, record.LastValid()
		if err := r.records.write(&deleting); err != nil {
			r.failures.retry(s, m, decide.Delete, err)
			return
		}
		record = &deleting
	}
	if err := r.removal.end(ctx, s, c, record); err != nil {
		if ctx.Err() == nil {
			r.failures.retry(s, m, decide.Delete, err)
		}
		return
	}
	if err := r.forgetRecord(s, record); err != nil {
		r.failures.retry(s, m, decide.Delete, err)
		return
	}
	m.retries.succeeded(decide.Delete)
	m.crashes.removed(m.retries.broken != "")
	r.memories.mu.Lock()
	m.stoppedLocked()
	r.memories.mu.Unlock()
	switch {
	case s.Facts.Wanted == decide.WantedOther:
		m.forgetContainer()
	case m.retries.broken != "": // also if the first DEL failed
		m.retries.failed(decide.Add, errors.New(m.retries.broken), false, time.Now())
	}
	r.host.update()
	r.held.mark(decide.HeldTaken) // for names that wait for the port or container id of this one
}

// forgetRecord removes the record. If the name is still wanted, the record is kept with phase `deleted`, which keeps
// the slot.
func (r *remover) forgetRecord(s *snapshot, record *statedir.Record) error {
	if stillWanted := r.desired.mayBeWanted(s.Name); record != nil && stillWanted {
		deleted := *record
		deleted.Phase, deleted.Result = statedir.Deleted, nil
		if s.Facts.Wanted == decide.WantedOther {
			// The next container under this name has not run before.
			deleted.AddedAt, deleted.Conf, deleted.Previous = nil, nil, nil
		}
		return r.records.write(&deleted)
	}
	if err := r.records.Remove(s.Name, s.Entry.ServiceType); err != nil {
		return err
	}
	r.desired.forget(s.Name)
	return nil
}

// clean removes resources with our owner tag that have no record. It runs DEL of every service type, because no record
// tells the type.
func (r *remover) clean(ctx context.Context, s *snapshot, m *memory) {
	var failures []error
	c := s.Container()
	executables, _ := r.plugins.List()
	done := map[spec.ServiceType]bool{}
	for _, e := range executables {
		if done[e.Type] {
			continue
		}
		done[e.Type] = true
		c.ServiceType = e.Type
		container := c
		conf := &spec.Conf{CNIVersion: spec.CNIVersion, Name: spec.Network, Container: &container}
		if err := r.removal.runDel(ctx, s, c, conf, e); err != nil {
			failures = append(failures, err)
		}
	}
	if len(failures) == 0 { // otherwise the resources must stay, so that DEL is run again
		failures = append(failures, r.removal.sweep(ctx, s))
	}
	err := errors.Join(failures...)
	switch {
	case err == nil:
		m.retries.succeeded(decide.Clean)
		r.log.Warn("leftover without a record removed", "container", s.Name)
	case ctx.Err() == nil:
		r.failures.retry(s, m, decide.Clean, err)
	}
}
