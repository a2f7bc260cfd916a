package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// snapshot is everything observed for one decision: the facts, and the values that the step needs.
type snapshot struct {
	name     spec.Name
	now      time.Time // the time that decides what is due and which back-offs have passed
	facts    decide.Facts
	claim    claim
	conf     *spec.Conf // the wanted configuration; nil: unknown
	digest   string
	entry    *statedir.Entry // the record or the error of reading it; nil: no file exists
	tag      spec.Owner      // owner tag of the namespace; zero if the namespace is not ours
	packets  *packets        // packet counters of the container; nil if it has no interface with our tag
	units    []unit.Unit     // the units that the name may use
	leftover string          // the first resource found with our owner tag

	recordProblem string // why the record cannot be used
	hostProblem   string // why Readable is false

	forAdd      plugin.Executable // for a new container
	forChange   plugin.Executable // for a reconfiguration of this container
	forRecorded plugin.Executable // for CHECK and DEL
}

// record returns the record, or nil if there is none or its phase is `deleted`.
func (s *snapshot) record() *statedir.Record {
	if s.entry == nil || s.entry.Record == nil || s.entry.Record.Phase == statedir.Deleted {
		return nil
	}
	return s.entry.Record
}

// observe reads everything that the decision for one name depends on. Only the values in memory are kept between two
// observations.
func (r *Reconciler) observe(ctx context.Context, name spec.Name) *snapshot {
	s := &snapshot{name: name}
	r.observeRecord(s)
	r.observeClaim(s)
	r.observeHost(ctx, s)
	r.observeExecutables(s)
	r.observeDue(s)
	return s
}

func (r *Reconciler) observeRecord(s *snapshot) {
	entries := r.records.Read(s.name)
	if len(entries) == 0 {
		return
	}
	s.entry = &entries[0]
	switch record := s.entry.Record; {
	case errors.Is(s.entry.Err, statedir.ErrNewer):
		s.facts.Record, s.recordProblem = decide.Newer, s.entry.Err.Error()
	case errors.Is(s.entry.Err, statedir.ErrDamaged):
		s.facts.Record, s.recordProblem = decide.Damaged, s.entry.Err.Error()
	case s.entry.Err != nil:
		s.facts.Record, s.recordProblem = decide.RecordUnreadable, s.entry.Err.Error()
	default:
		s.facts.Record = recordState(record.Phase)
		s.facts.OtherBoot = record.BootID != r.settings.BootID
	}
}

func recordState(phase statedir.Phase) decide.RecordState {
	switch phase {
	case statedir.Adding:
		return decide.IsAdding
	case statedir.Added:
		return decide.IsAdded
	case statedir.Changing:
		return decide.IsChanging
	case statedir.Deleting:
		return decide.IsDeleting
	default:
		return decide.NoRecord
	}
}

func (r *Reconciler) observeClaim(s *snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claims == nil {
		s.facts.Wanted, s.facts.AnyUnread = decide.WantedUnread, true
		s.claim.unread = notReadYet
		return
	}
	s.claim = r.claims.claim(s.name, r.holders)
	m := r.memoryLocked(s.name)
	m.notes = nil
	if s.claim.binding != nil {
		m.notes = r.claims.notes(s.claim.binding)
		m.port = s.claim.binding.PortID
	} else if reason, unread := r.claims.unreadPorts[m.port]; unread {
		s.claim.unread = reason // even without a record, a binding that is unread still exists
	}
	if s.claim.refused != "" {
		m.notes = append([]string{editRefused + s.claim.refused}, m.notes...)
	}
	s.facts.AnyUnread = r.claims.anyUnread || r.claims.unread != ""
	s.facts.Taken = s.claim.taken != ""
	switch {
	case s.claim.unread != "":
		s.facts.Wanted = decide.WantedUnread
	case s.claim.binding == nil:
		s.facts.Wanted = decide.NotWanted
	default:
		r.compare(s)
	}
}

// compare sets Facts.Wanted by comparing the wanted container with the recorded one.
func (r *Reconciler) compare(s *snapshot) {
	s.conf = s.claim.binding.Conf(spec.Network, "")
	if s.claim.refused != "" {
		// A configuration that cannot be read counts as a refused edit: the last readable one stays in use.
		last := s.lastRecord()
		if last == nil || last.Conf == nil {
			s.facts.Wanted, s.claim.unread = decide.WantedUnread, s.claim.refused
			return
		}
		s.conf.Configuration = last.Conf.Configuration
	}
	digest, err := s.conf.Digest()
	if err != nil {
		s.facts.Wanted = decide.WantedUnread
		s.claim.unread = err.Error()
		return
	}
	s.digest = digest
	s.facts.Wanted = decide.Wanted
	record := s.record()
	if s.facts.Record == decide.Damaged && s.entry.ServiceType != s.claim.binding.Container.ServiceType {
		s.facts.Wanted = decide.WantedOther // the file name of a damaged record contains the service type
	}
	if record == nil {
		return
	}
	was, is := record.Container, s.claim.binding.Container
	switch {
	case was.ContainerID != is.ContainerID || was.PortID != is.PortID || was.ServiceType != is.ServiceType:
		s.facts.Wanted = decide.WantedOther
	case record.Digest != digest:
		s.facts.Wanted = decide.WantedEdited
	case was.GroupID != is.GroupID:
		s.facts.Wanted = decide.WantedGroup
	}
}

// serviceType returns the service type of the record, or of the binding if there is no record.
func (s *snapshot) serviceType() spec.ServiceType {
	if s.entry != nil && s.facts.Record != decide.NoRecord {
		return s.entry.ServiceType
	}
	if s.claim.binding != nil {
		return s.claim.binding.Container.ServiceType
	}
	return ""
}

func (r *Reconciler) observeExecutables(s *snapshot) {
	// If the scan ends during the following calls, an executable that was not found before its end may exist.
	s.facts.PluginsUnscanned = !r.executables.Scanned()
	t := s.serviceType()
	if t == "" {
		return
	}
	record := s.record()
	path, version := "", ""
	if record != nil {
		path, version = record.Executable.Path, record.Executable.Version
	}
	var served, selected bool
	s.forRecorded, served = r.executables.ForRecorded(t, path)
	s.forAdd, selected = r.executables.Select(t)
	switch {
	case !served && !selected:
		s.facts.Executable = decide.NoExecutable
	case s.forAdd.Unready != "":
		s.facts.Executable = decide.ExecutableNotReady
	default:
		s.facts.Executable = decide.ExecutableReady
	}
	if version == "" && s.facts.Record == decide.Damaged && selected {
		version = s.forAdd.Version.String() // the record is damaged: assume the version that is installed
	}
	if version != "" {
		s.forChange, s.facts.Reconfigures = r.executables.ForChange(t, version)
		if !s.facts.Reconfigures && s.facts.PluginsUnscanned && s.facts.Executable != decide.NoExecutable {
			s.facts.Executable = decide.ExecutableUnknown
		}
	}
}

// observeDue sets the facts that depend on time and memory. If the desired state or the executable changed, it ends
// every back-off, because the change may have removed the cause of the failures.
func (r *Reconciler) observeDue(s *snapshot) {
	r.mu.Lock()
	m := r.memoryLocked(s.name)
	r.applyPushedLocked(m)
	r.mu.Unlock()
	now := time.Now() // after pushes were applied, which can make a CHECK due at once
	s.now = now
	wanted := strings.Join([]string{s.digest, s.claim.taken, fmt.Sprint(s.facts.Wanted > decide.NotWanted), s.forAdd.Path,
		fmt.Sprint(s.forAdd.Version), s.forAdd.Unready}, " ")
	if s.facts.Wanted != decide.WantedUnread && m.wanted != wanted {
		m.wanted = wanted
		m.resetBackOffs()
	}
	for step := range decide.StepCount {
		s.facts.Waiting[step] = m.backOff[step].waiting(now)
	}
	if m.notInPlace != "" && m.notInPlace == s.digest {
		s.facts.Reconfigures = false
	}
	s.facts.CheckFailed = m.checkErrors >= 2
	s.facts.CheckDue = r.checkDue(s, m)
	s.facts.AgainDue = m.againDue(now)
	if s.entry != nil && s.entry.Record != nil {
		// This includes a record of phase `deleted`, whose container is being healed.
		m.ran = m.ran || s.entry.Record.AddedAt != nil
		if m.published == "" {
			m.published = s.entry.Record.Container.ContainerID // published by an earlier run
		}
	} else if s.entry != nil && m.published == "" {
		m.published = s.tag.ContainerID // published by an earlier run; the record is damaged
	}
	m.ran = m.ran || s.facts.Record == decide.Damaged // a damaged record may belong to a container that ran
}
