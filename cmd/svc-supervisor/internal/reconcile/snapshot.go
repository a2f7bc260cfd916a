package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/observe"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// snapshot is what was observed for one decision, with all facts.
type snapshot struct {
	*observe.Snapshot
	now time.Time // the time that decides what is due and which back-offs have passed
}

// observe reads everything that the decision for one name depends on. Only the values in memory are kept between two
// observations.
func (w *worker) observe(ctx context.Context, name spec.Name, m *memory) *snapshot {
	claim := w.desired.claim(name, m.port)
	seen := w.observer.Observe(ctx, name, claim, w.listing.take(name))
	if record := seen.Record(); record != nil && w.desired.learn(name, record) {
		// Which binding belongs to the name depends on its record, which could not be read before.
		claim = w.desired.claim(name, m.port)
		seen = w.observer.Observe(ctx, name, claim, nil)
	}
	if claim.Binding != nil {
		m.port = claim.Binding.PortID
	}
	m.notes = claim.Notes
	if claim.Refused != "" {
		m.notes = append([]string{editRefused + claim.Refused}, m.notes...)
	}
	s := &snapshot{Snapshot: seen}
	w.addDue(s, m)
	return s
}

// addDue adds the facts that depend on time and on earlier steps, which are kept in memory. If the desired state or the
// executable changed, it ends every back-off, because the change may have removed the cause of the failures.
func (w *worker) addDue(s *snapshot, m *memory) {
	w.memories.mu.Lock()
	m.applyPushedLocked()
	w.memories.mu.Unlock()
	now := time.Now() // after pushes were applied, which can make a CHECK due at once
	s.now = now
	wanted := attempt{
		digest: s.Digest, taken: s.Claim.Taken, wanted: s.Facts.IsWanted(),
		executable: fmt.Sprint(s.ForAdd.Path, " ", s.ForAdd.Version), ready: s.ForAdd.Unready == "",
	}
	if s.Facts.Wanted != decide.WantedUnread {
		m.retries.setAttempt(wanted)
	}
	for step := range decide.StepCount {
		s.Facts.Waiting[step] = m.retries.backOff[step].waiting(now)
	}
	if m.retries.notInPlace != "" && m.retries.notInPlace == s.Digest {
		s.Facts.Reconfigures = false
	}
	s.Facts.CheckFailed = m.checks.errors >= 2
	s.Facts.CheckDue = w.checks.isDue(s, m)
	s.Facts.ReconfigureDue = m.requests.due(now)
	if s.Entry != nil && m.published == "" { // published by an earlier run
		m.published = s.Tag.ContainerID // for a damaged record
		if s.Entry.Record != nil {
			m.published = s.Entry.Record.Container.ContainerID
		}
	}
	m.noteHistory(s)
	m.life.ran = m.life.ran || s.Facts.Record == decide.Damaged // a damaged record may belong to a container that ran
}
