package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// situation is what one look at a container found: the facts for the decision, and what a step needs.
type snapshot struct {
	name     spec.Name
	now      time.Time // by which it is decided what is due and what waits
	facts    Facts
	claim    claim
	conf     *spec.Conf // of what is wanted; nil if it is not known
	digest   string
	entry    *statedir.Entry // the record, or why there is none; nil if there is no file
	tag      spec.Owner      // of the namespace, zero if it is not ours
	packets  *packets        // of the container; nil if it has no interface of ours
	units    []unit.Unit     // those that the name owns
	leftover string          // the first of what carries our tag
	problem  string          // why Readable is false, or the record is no record

	toAdd    plugin.Executable // serves new containers
	toChange plugin.Executable // can reconfigure this one
	toEnd    plugin.Executable // for CHECK and DEL
}

// record returns the record unless there is none, or only one of phase `deleted`.
func (s *snapshot) record() *statedir.Record {
	if s.entry == nil || s.entry.Record == nil || s.entry.Record.Phase == statedir.Deleted {
		return nil
	}
	return s.entry.Record
}

// look reads everything that the decision for one name depends on. Nothing of it is remembered but what memo says.
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
		s.facts.Record, s.problem = Newer, s.entry.Err.Error()
	case errors.Is(s.entry.Err, statedir.ErrDamaged):
		s.facts.Record, s.problem = Damaged, s.entry.Err.Error()
	case s.entry.Err != nil:
		// Not read is neither damaged nor absent. The zero WantedState keeps every rule but the first away.
		s.facts.Record, s.problem = Newer, s.entry.Err.Error()
	default:
		s.facts.Record = recordState(record.Phase)
		s.facts.OtherBoot = record.BootID != r.settings.BootID
	}
}

func recordState(phase statedir.Phase) RecordState {
	switch phase {
	case statedir.Adding:
		return IsAdding
	case statedir.Added:
		return IsAdded
	case statedir.Changing:
		return IsChanging
	case statedir.Deleting:
		return IsDeleting
	default:
		return NoRecord
	}
}

func (r *Reconciler) observeClaim(s *snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claims == nil {
		s.facts.Wanted, s.facts.AnyUnread = WantedUnread, true
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
		s.claim.unread = reason // without a record too: its binding is not gone
	}
	if s.claim.refused != "" {
		m.notes = append([]string{editRefused + s.claim.refused}, m.notes...)
	}
	s.facts.AnyUnread = r.claims.anyUnread || r.claims.unread != ""
	s.facts.Taken = s.claim.taken != ""
	switch {
	case s.claim.unread != "":
		s.facts.Wanted = WantedUnread
	case s.claim.binding == nil:
		s.facts.Wanted = NotWanted
	default:
		r.compare(s)
	}
}

// compare returns how the wanted container differs from the recorded one.
func (r *Reconciler) compare(s *snapshot) {
	s.conf = s.claim.binding.Conf(spec.Network, "")
	if s.claim.refused != "" {
		// A configuration that cannot be read is a refused edit: the last one that could be read goes on.
		last := s.lastRecord()
		if last == nil || last.Conf == nil {
			s.facts.Wanted, s.claim.unread = WantedUnread, s.claim.refused
			return
		}
		s.conf.Configuration = last.Conf.Configuration
	}
	digest, err := s.conf.Digest()
	if err != nil {
		s.facts.Wanted = WantedUnread
		s.claim.unread = err.Error()
		return
	}
	s.digest = digest
	s.facts.Wanted = Wanted
	record := s.record()
	if s.facts.Record == Damaged && s.entry.ServiceType != s.claim.binding.Container.ServiceType {
		s.facts.Wanted = WantedOther // the file's name tells the type at least
	}
	if record == nil {
		return
	}
	was, is := record.Container, s.claim.binding.Container
	switch {
	case was.ContainerID != is.ContainerID || was.PortID != is.PortID || was.ServiceType != is.ServiceType:
		s.facts.Wanted = WantedOther
	case record.Digest != digest:
		s.facts.Wanted = WantedEdited
	case was.GroupID != is.GroupID:
		s.facts.Wanted = WantedGroup
	}
}

// serviceType is the type of what is there: the record's, else of what is wanted.
func (s *snapshot) serviceType() spec.ServiceType {
	if s.entry != nil && s.facts.Record != NoRecord {
		return s.entry.ServiceType
	}
	if s.claim.binding != nil {
		return s.claim.binding.Container.ServiceType
	}
	return ""
}

func (r *Reconciler) observeExecutables(s *snapshot) {
	if s.facts.Record == NoRecord && s.facts.Leftover && !r.executables.Scanned() {
		s.facts.AnyUnread = true // DEL of a leftover is asked of every type: of those too that are not found yet
	}
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
	s.toEnd, served = r.executables.ForRecorded(t, path)
	s.toAdd, selected = r.executables.Select(t)
	switch {
	case !served && !selected:
		s.facts.Executable = NoExecutable
	case s.toAdd.Unready != "":
		s.facts.Executable = ExecutableNotReady
	default:
		s.facts.Executable = ExecutableReady
	}
	if version == "" && s.facts.Record == Damaged && selected {
		version = s.toAdd.Version.String() // the record does not tell: the best that there is
	}
	if version != "" {
		s.toChange, s.facts.Reconfigures = r.executables.ForChange(t, version)
		if !s.facts.Reconfigures && !r.executables.Scanned() {
			s.facts.Executable = NoExecutable // one that can may yet be found: no DEL for want of it
		}
	}
}

// observeDue adds what is due. A change of what is wanted, or of the executable, ends every back-off: it may have been the
// cause of the failure.
func (r *Reconciler) observeDue(s *snapshot) {
	r.mu.Lock()
	m := r.memoryLocked(s.name)
	r.applyPushedLocked(m)
	r.mu.Unlock()
	now := time.Now() // after the news, of which a CHECK may be due at once
	s.now = now
	wanted := strings.Join([]string{s.digest, s.claim.taken, fmt.Sprint(s.facts.Wanted > NotWanted), s.toAdd.Path,
		fmt.Sprint(s.toAdd.Version), s.toAdd.Unready}, " ")
	if s.facts.Wanted != WantedUnread && m.wanted != wanted {
		m.wanted = wanted
		m.resetBackOffs()
	}
	for step := range stepCount {
		s.facts.Waiting[step] = m.backOff[step].waiting(now)
	}
	if m.notInPlace != "" && m.notInPlace == s.digest {
		s.facts.Reconfigures = false
	}
	s.facts.CheckFailed = m.checkErrors >= 2
	s.facts.CheckDue = r.checkDue(s, m)
	s.facts.AgainDue = m.againDue(now)
	if s.entry != nil && s.entry.Record != nil {
		m.ran = m.ran || s.entry.Record.AddedAt != nil // also of one that is `deleted`, and being healed
		if m.published == "" {
			m.published = s.entry.Record.Container.ContainerID // by an earlier run
		}
	} else if s.entry != nil && m.published == "" {
		m.published = s.tag.ContainerID // likewise, where the record does not tell
	}
	m.ran = m.ran || s.facts.Record == Damaged // the record does not tell that it did not
}
