package observe

import (
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Claim is the part of the desired state that concerns one name.
type Claim struct {
	Binding   *spec.Binding // nil: the name is not wanted
	Unread    string        // why it is unknown whether the name is wanted, or with which configuration
	Refused   string        // why the configuration cannot be read, if everything else is known
	Taken     string        // what else has the name, the port or the container id
	Notes     []string      // messages about the binding that are shown while its container runs
	AnyUnread bool          // at least one binding of the host could not be read
}

// Packets counts the packets that have passed the container's interface since it was created. In and Out are as seen by
// the container.
type Packets struct{ In, Out uint64 }

// Snapshot is everything observed for one decision: the facts, and the values that the step needs. The facts that
// depend on time and on earlier steps are not set: CheckFailed, CheckDue, ReconfigureDue, Slot and Waiting.
type Snapshot struct {
	Name     spec.Name
	Facts    decide.Facts
	Claim    Claim
	Conf     *spec.Conf // the wanted configuration; nil: unknown
	Digest   string
	Entry    *statedir.Entry // the record or the error of reading it; nil: no file exists
	Tag      spec.Owner      // owner tag of the namespace; zero if the namespace is not ours
	Packets  *Packets        // packet counters of the container; nil if it has no interface with our tag
	Units    []unit.Unit     // the units that the name may use
	Leftover string          // the first resource found with our owner tag

	RecordProblem string // why the record cannot be used
	HostProblem   string // why Facts.Readable is false

	ForAdd         plugin.Executable // for a new container
	ForReconfigure plugin.Executable // for a reconfiguration of this container
	ForRecorded    plugin.Executable // for CHECK and DEL
}

// Record returns the record, or nil if there is none or its phase is `deleted`.
func (s *Snapshot) Record() *statedir.Record {
	if s.Entry == nil || s.Entry.Record == nil || s.Entry.Record.Phase == statedir.Deleted {
		return nil
	}
	return s.Entry.Record
}

// LastRecord returns the record of the wanted container in any phase, or nil if there is no record or it is another
// container's. The name must be wanted.
func (s *Snapshot) LastRecord() *statedir.Record {
	if s.Entry == nil || s.Entry.Record == nil {
		return nil
	}
	recorded, wanted := s.Entry.Record.Container, s.Claim.Binding.Container
	if recorded.ContainerID != wanted.ContainerID || recorded.ServiceType != wanted.ServiceType {
		return nil
	}
	return s.Entry.Record
}

// ServiceType returns the service type of the record, or of the binding if there is no record.
func (s *Snapshot) ServiceType() spec.ServiceType {
	if s.Entry != nil && s.Facts.Record != decide.NoRecord {
		return s.Entry.ServiceType
	}
	if s.Claim.Binding != nil {
		return s.Claim.Binding.Container.ServiceType
	}
	return ""
}

// Container returns the container of the record. If the record is damaged, it returns what else is known: name, service
// type, and the container id of the owner tag.
func (s *Snapshot) Container() spec.Container {
	if record := s.Record(); record != nil {
		return record.Container
	}
	c := spec.Container{InterfaceName: s.Name, ServiceType: s.ServiceType(), ContainerID: s.Tag.ContainerID}
	if c.ContainerID == "" {
		c.ContainerID = spec.ContainerID(s.Name) // CNI requires a container id for DEL
	}
	return c
}

// UnitState returns the state of a unit by its name.
func (s *Snapshot) UnitState(name string) decide.UnitsState { return stateOf(name, s.Units) }

// UnitSubState returns systemd's SubState of a unit, or "" if systemd has no such unit.
func (s *Snapshot) UnitSubState(name string) string {
	for _, u := range s.Units {
		if u.Name == name {
			return u.SubState
		}
	}
	return ""
}

// FailedUnit returns the first unit that systemd has given up restarting, or "" if there is none.
func (s *Snapshot) FailedUnit() string {
	if s.Record() == nil || s.Facts.Units != decide.UnitsFailed {
		return ""
	}
	for _, name := range s.Record().Units() {
		if s.UnitState(name) == decide.UnitsFailed {
			return name
		}
	}
	return ""
}
