// Package observe reads everything that the decision for one container depends on: its record, the host, the plugins.
// It writes nothing and remembers nothing.
package observe

import (
	"context"
	"errors"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Records reads the records of the state directory.
type Records interface {
	Read(spec.Name) []statedir.Entry
}

// Namespaces observes the named network namespaces of the host.
type Namespaces interface {
	Observe(spec.Name) (netns.Namespace, error)
}

// Links observes the interfaces in the host's own network namespace.
type Links interface {
	Observe(spec.Name) (netns.Link, error)
}

// Units observes the units of systemd.
type Units interface {
	List(ctx context.Context, patterns ...string) ([]unit.Unit, error)
	Owner(ctx context.Context, unit string) (spec.Owner, bool, error)
	ShuttingDown(ctx context.Context) (bool, error) // reports whether the host shuts down
}

// Plugins finds the executables of the plugin path.
type Plugins interface {
	Scanned() bool // the plugin path was read completely, so an executable that is not found does not exist
	Select(spec.ServiceType) (plugin.Executable, bool)
	ForRecorded(t spec.ServiceType, path string) (plugin.Executable, bool)
	ForReconfigure(t spec.ServiceType, version string) (plugin.Executable, bool)
}

// Observer observes one name at a time. Its methods may be called concurrently.
type Observer struct {
	bootID     string
	records    Records
	namespaces Namespaces
	links      Links
	units      Units
	plugins    Plugins
}

// New returns an Observer. bootID identifies the current boot of the host.
func New(bootID string, records Records, namespaces Namespaces, links Links, units Units, plugins Plugins) *Observer {
	return &Observer{bootID, records, namespaces, links, units, plugins}
}

// Observe reads the state of a name. claim is what the desired state contains for it. units are the units that the name
// may use, if the caller knows them; otherwise systemd is asked.
func (o *Observer) Observe(ctx context.Context, name spec.Name, claim Claim, units []unit.Unit) *Snapshot {
	s := &Snapshot{Name: name, Claim: claim, Units: units}
	o.observeRecord(s)
	s.compareClaim()
	o.observeHost(ctx, s)
	o.observePlugins(s)
	return s
}

// Tag returns the owner tag of the namespace of a name. It returns false if the namespace is not ours or cannot be
// read.
func (o *Observer) Tag(name spec.Name) (spec.Owner, bool) {
	namespace, err := o.namespaces.Observe(name)
	if err != nil || namespace.State != netns.Ours {
		return spec.Owner{}, false
	}
	return namespace.Owner, true
}

// UnitsOf returns the units that the name may use, of any owner.
func (o *Observer) UnitsOf(ctx context.Context, name spec.Name) ([]unit.Unit, error) {
	return o.units.List(ctx, name.Unit(), "svc-"+string(name)+":*.service")
}

func (o *Observer) observeRecord(s *Snapshot) {
	entries := o.records.Read(s.Name)
	if len(entries) == 0 {
		return
	}
	s.Entry = &entries[0]
	switch record := s.Entry.Record; {
	case errors.Is(s.Entry.Err, statedir.ErrNewer):
		s.Facts.Record, s.RecordProblem = decide.Newer, s.Entry.Err.Error()
	case errors.Is(s.Entry.Err, statedir.ErrDamaged):
		s.Facts.Record, s.RecordProblem = decide.Damaged, s.Entry.Err.Error()
	case s.Entry.Err != nil:
		s.Facts.Record, s.RecordProblem = decide.RecordUnreadable, s.Entry.Err.Error()
	default:
		s.Facts.Record = recordState(record.Phase)
		s.Facts.OtherBoot = record.BootID != o.bootID
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

// compareClaim sets the facts about the desired state.
func (s *Snapshot) compareClaim() {
	s.Facts.AnyUnread = s.Claim.AnyUnread
	s.Facts.Taken = s.Claim.Taken != ""
	switch {
	case s.Claim.Unread != "":
		s.Facts.Wanted = decide.WantedUnread
	case s.Claim.Binding == nil:
		s.Facts.Wanted = decide.NotWanted
	default:
		s.compare()
	}
}

// compare sets Facts.Wanted by comparing the wanted container with the recorded one.
func (s *Snapshot) compare() {
	s.Conf = s.Claim.Binding.Conf(spec.Network, "")
	if s.Claim.Refused != "" {
		// A configuration that cannot be read counts as a refused edit: the last readable one stays in use.
		last := s.LastRecord()
		if last == nil || last.Conf == nil {
			s.Facts.Wanted, s.Claim.Unread = decide.WantedUnread, s.Claim.Refused
			return
		}
		s.Conf.Configuration = last.Conf.Configuration
	}
	digest, err := s.Conf.Digest()
	if err != nil {
		s.Facts.Wanted = decide.WantedUnread
		s.Claim.Unread = err.Error()
		return
	}
	s.Digest = digest
	s.Facts.Wanted = decide.Wanted
	record := s.Record()
	if s.Facts.Record == decide.Damaged && s.Entry.ServiceType != s.Claim.Binding.Container.ServiceType {
		s.Facts.Wanted = decide.WantedOther // the file name of a damaged record contains the service type
	}
	if record == nil {
		return
	}
	was, is := record.Container, s.Claim.Binding.Container
	switch {
	case was.ContainerID != is.ContainerID || was.PortID != is.PortID || was.ServiceType != is.ServiceType:
		s.Facts.Wanted = decide.WantedOther
	case record.Digest != digest:
		s.Facts.Wanted = decide.WantedEdited
	case was.GroupID != is.GroupID:
		s.Facts.Wanted = decide.WantedGroup
	}
}

func (o *Observer) observePlugins(s *Snapshot) {
	// This is read before the executables are looked up. If the scan ends in between, an executable that was not found
	// may exist nevertheless.
	s.Facts.PluginsUnscanned = !o.plugins.Scanned()
	t := s.ServiceType()
	if t == "" {
		return
	}
	record := s.Record()
	path, version := "", ""
	if record != nil {
		path, version = record.Executable.Path, record.Executable.Version
	}
	var served, selected bool
	s.ForRecorded, served = o.plugins.ForRecorded(t, path)
	s.ForAdd, selected = o.plugins.Select(t)
	switch {
	case !served || !selected: // they differ only if the inventory changes between the two calls
		s.Facts.Executable = decide.NoExecutable
	case s.ForAdd.Unready != "":
		s.Facts.Executable = decide.ExecutableNotReady
	default:
		s.Facts.Executable = decide.ExecutableReady
	}
	if version == "" && s.Facts.Record == decide.Damaged && selected {
		version = s.ForAdd.Version.String() // the record is damaged: assume the version that is installed
	}
	if version != "" {
		s.ForReconfigure, s.Facts.Reconfigures = o.plugins.ForReconfigure(t, version)
		if !s.Facts.Reconfigures && s.Facts.PluginsUnscanned && s.Facts.Executable != decide.NoExecutable {
			s.Facts.Executable = decide.ExecutableUnknown
		}
	}
}
