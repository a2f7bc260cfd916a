package reconcile

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/report"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Records is the state directory.
type Records interface {
	Names() []spec.Name
	Read(spec.Name) []statedir.Entry
	Write(*statedir.Record) error
	Remove(spec.Name, spec.ServiceType) error
	Rescan() error
}

// Namespaces are the named network namespaces of the host.
type Namespaces interface {
	Path(spec.Name) string
	Observe(spec.Name) (netns.Namespace, error)
	List() ([]netns.Namespace, error)
	// Make makes the namespace of a container, owned by a user namespace of the container's user id if that is asked for.
	Make(ctx context.Context, owner spec.Owner, userNamespace bool) error
	// Remove removes the namespace and gives the container's user id back. Absent is success.
	Remove(context.Context, spec.Name) error
	// ReleaseUnused gives every user id back whose container has neither a namespace nor a plugin's directory, and for whose
	// name inUse reports false. inUse is called again immediately before an id is given back, while none can be allocated.
	ReleaseUnused(ctx context.Context, inUse func(spec.Name) bool) error
}

// Links are the interfaces in the host's own namespace.
type Links interface {
	Observe(spec.Name) (netns.Link, error)
	List() ([]netns.Link, error)
	Remove(spec.Name) error
}

// Units are systemd's.
type Units interface {
	List(ctx context.Context, patterns ...string) ([]unit.Unit, error)
	Owner(ctx context.Context, unit string) (spec.Owner, bool, error)
	Show(ctx context.Context, unit string) (unit.Details, error)
	// Restarts is how often systemd has started a service again.
	Restarts(ctx context.Context, unit string) (int, error)
	// LastLine is the last line that a service logged before it ended, "" if there is none.
	LastLine(ctx context.Context, unit string) string
	ShuttingDown(ctx context.Context) (bool, error) // the host itself
	Stop(ctx context.Context, unit string) error
}

// Executables is what the plugin path holds.
type Executables interface {
	Scanned() bool // the plugin path was read: what is not found is not there
	List() ([]plugin.Executable, []plugin.Refusal)
	Select(spec.ServiceType) (plugin.Executable, bool)
	ForRecorded(t spec.ServiceType, path string) (plugin.Executable, bool)
	ForChange(t spec.ServiceType, version string) (plugin.Executable, bool)
	Run(context.Context, plugin.Call) ([]byte, error)
}

// Reporter publishes.
type Reporter interface {
	Host(spec.HostStatus)
	Starting(spec.Container)
	Running(c spec.Container, health *spec.Health, notes ...string)
	Unstable(c spec.Container, reason string, failed bool)
	Pushed(id spec.ContainerID, connections []spec.Connection)
	Checked(id spec.ContainerID, connections []spec.Connection)
	ChangeFailed(c spec.Container, reason string)
	Failing(spec.Container, report.Problem)
	Stopping(spec.Container)
	Remove(spec.ContainerID)
	Prune(ctx context.Context, keep func(spec.ContainerID) bool) error
}

const healingTimeout = report.HealingTimeout
