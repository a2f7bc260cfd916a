package reconcile

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Records stores the records in the state directory.
type Records interface {
	Names() []spec.Name
	Read(spec.Name) []statedir.Entry
	Write(*statedir.Record) error
	Remove(spec.Name, spec.ServiceType) error
	Rescan() error
}

// Namespaces manages the named network namespaces of the host and the user ids of the containers.
type Namespaces interface {
	Path(spec.Name) string
	List() ([]netns.Namespace, error)
	// Make creates the namespace of a container. If userNamespace is set, a user namespace with the container's user id
	// owns it.
	Make(ctx context.Context, owner spec.Owner, userNamespace bool) error
	// Remove removes the namespace and releases the container's user id. It succeeds if the namespace does not exist.
	Remove(context.Context, spec.Name) error
	// ReleaseUnused releases every user id whose container has neither a namespace nor a plugin's directory, and for
	// whose name inUse returns false. inUse is called again immediately before the release, while no user id can be
	// allocated.
	ReleaseUnused(ctx context.Context, inUse func(spec.Name) bool) error
}

// Links manages the interfaces in the host's own network namespace.
type Links interface {
	List() ([]netns.Link, error)
	Remove(spec.Name) error
}

// Units inspects and stops units of systemd.
type Units interface {
	List(ctx context.Context, patterns ...string) ([]unit.Unit, error)
	Owner(ctx context.Context, unit string) (spec.Owner, bool, error)
	Show(ctx context.Context, unit string) (unit.Details, error)
	// Restarts returns how often systemd has restarted a service.
	Restarts(ctx context.Context, unit string) (int, error)
	// LastLine returns the last line that a service logged before it ended, or "" if there is none.
	LastLine(ctx context.Context, unit string) string
	Stop(ctx context.Context, unit string) error
}

// Executables lists and runs the executables of the plugin path.
type Executables interface {
	List() ([]plugin.Executable, []plugin.Refusal)
	Select(spec.ServiceType) (plugin.Executable, bool)
	Run(context.Context, plugin.Call) ([]byte, error)
}

// Reporter publishes statuses. See report.StatusPublisher.
type Reporter interface {
	SetHost(spec.HostStatus)
	Set(c spec.Container, code spec.StatusCode, message string, health *spec.Health)
	MergeConnections(id spec.ContainerID, connections []spec.Connection)
	ReplaceConnections(id spec.ContainerID, connections []spec.Connection)
	Remove(spec.ContainerID)
	Prune(ctx context.Context, keep func(spec.ContainerID) bool) error
}
