package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// check runs CHECK. Only an error that the executable answers counts, and only twice in a row: a deadline, a signal or
// garbage is unknown, and so is everything while systemd or the namespaces do not answer, or a unit is on its way.
func (r *Reconciler) check(ctx context.Context, s *situation, m *memo) {
	record := s.record()
	stdout, err := r.run(ctx, spec.Check, s.toEnd, record)
	m.checkAt, m.checked = r.nextCheck(), time.Now()
	if ctx.Err() != nil {
		return
	}
	health, garbage := parseHealth(stdout)
	var said *spec.Error
	switch {
	case err == nil && garbage == nil:
		m.checkErrors = 0
	case err == nil:
		r.log.Warn("CHECK without an answer", "container", s.name, "error", garbage)
		return
	case errors.As(err, &said) && said.Code != spec.CodeAgain && s.facts.Readable && s.facts.Units == UnitsGood:
		m.noteCheckError(said, time.Now(), r.settings.CheckInterval/10)
		r.log.Warn("CHECK failed", "container", s.name, "error", err, "times", m.checkErrors)
		return
	default:
		r.log.Warn("CHECK without an answer", "container", s.name, "error", err)
		return
	}
	if health == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m.noteHealth(health)
	r.takeNewsLocked(m) // what was pushed meanwhile is newer
	r.tellAnswerLocked(s.name, m, false)
	r.report.Checked(record.Container.ContainerID, m.health.Connections)
}

// parseHealth reads what CHECK printed; nothing is allowed.
func parseHealth(stdout []byte) (*spec.Health, error) {
	if len(stdout) == 0 {
		return nil, nil
	}
	health := new(spec.Health)
	if err := json.Unmarshal(stdout, health); err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	if health.Code == "" {
		return nil, nil // some other output, which CNI allows
	}
	if err := health.Check(); err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	return health, nil
}
