package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// typeFilter knows which bindings this supervisor serves, and which another service of this host serves.
type typeFilter struct {
	types   []spec.ServiceType // Settings.Types
	records interface {
		Read(spec.Name) []statedir.Entry
	}
	plugins interface {
		Select(spec.ServiceType) (plugin.Executable, bool)
	}
	desired *desired
}

// split returns the desired state without the bindings of types that another service of this host serves
// (Settings.Types), and the container ids of those bindings. If this supervisor has a record for such a binding, the
// binding is kept with an unknown configuration. So a container is not removed because its type is no longer listed.
func (f *typeFilter) split(desired spec.Desired) (spec.Desired, map[spec.ContainerID]bool) {
	if len(f.types) == 0 {
		return desired, nil
	}
	var bindings []spec.Binding
	others := map[spec.ContainerID]bool{}
	for _, b := range desired.Bindings {
		switch t := b.Container.ServiceType; {
		case t == "" || slices.Contains(f.types, t): // an empty type could not be read and is unknown
		case f.recordedUnlisted(&b):
			b.Reading = spec.Unknown
			b.Fault = fmt.Sprintf("type %s is not one of --types (%s): the container is kept", t, f.list())
		default:
			others[b.Container.ContainerID] = true
			continue
		}
		bindings = append(bindings, b)
	}
	desired.Bindings = bindings
	return desired, others
}

// recordedUnlisted reports whether the port of a binding has a record of a type that is not listed. If a record with
// the name of the binding cannot be read, it may be the one.
func (f *typeFilter) recordedUnlisted(b *spec.Binding) bool {
	unlisted := func(e statedir.Entry) bool { return !slices.Contains(f.types, e.ServiceType) }
	for _, name := range f.desired.namesOfPort(b.PortID) {
		if slices.ContainsFunc(f.records.Read(name), unlisted) {
			return true
		}
	}
	return slices.ContainsFunc(f.records.Read(b.Container.InterfaceName), func(e statedir.Entry) bool {
		return e.Record == nil && unlisted(e)
	})
}

// list returns the listed types as text.
func (f *typeFilter) list() string {
	var names []string
	for _, t := range f.types {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// serves reports whether this supervisor publishes the status of a container, see Reconciler.Serves.
func (f *typeFilter) serves(id spec.ContainerID, t spec.ServiceType) bool {
	if f.desired.hasRecordOf(id) {
		return true
	}
	if len(f.types) > 0 {
		return slices.Contains(f.types, t)
	}
	_, served := f.plugins.Select(t)
	return served
}
