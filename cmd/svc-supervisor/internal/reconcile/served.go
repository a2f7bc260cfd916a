package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// served returns the desired state without the bindings of types that another service of this host serves
// (Settings.Types), and the container ids of those bindings. If this supervisor has a record for such a binding, the
// binding is kept with an unknown configuration. So a container is not removed because its type is no longer listed.
func (r *Reconciler) served(desired spec.Desired) (spec.Desired, map[spec.ContainerID]bool) {
	if len(r.settings.Types) == 0 {
		return desired, nil
	}
	var bindings []spec.Binding
	others := map[spec.ContainerID]bool{}
	for _, b := range desired.Bindings {
		switch t := b.Container.ServiceType; {
		case t == "" || slices.Contains(r.settings.Types, t): // an empty type could not be read and is unknown
		case r.recordedUnlisted(b.PortID):
			b.Reading = spec.Unknown
			b.Fault = fmt.Sprintf("type %s is not one of --types (%s): the container is kept", t, r.types())
		default:
			others[b.Container.ContainerID] = true
			continue
		}
		bindings = append(bindings, b)
	}
	desired.Bindings = bindings
	return desired, others
}

// recordedUnlisted reports whether a port has a record of a type that is not listed.
func (r *Reconciler) recordedUnlisted(port spec.PortID) bool {
	r.mu.Lock()
	names := slices.Collect(maps.Keys(r.holders.byPort[port]))
	r.mu.Unlock()
	for _, name := range names {
		for _, entry := range r.records.Read(name) {
			if !slices.Contains(r.settings.Types, entry.ServiceType) {
				return true
			}
		}
	}
	return false
}

func (r *Reconciler) types() string {
	var names []string
	for _, t := range r.settings.Types {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// Serves reports whether this supervisor publishes the status of a container. It does if it has a record of the
// container, or if the type is one of Settings.Types, or if Settings.Types is empty and an executable serves the type.
// It does not wait until the plugin path has been read, because a missing status of a container without a record does
// no harm.
func (r *Reconciler) Serves(id spec.ContainerID, t spec.ServiceType) bool {
	r.mu.Lock()
	recorded := len(r.holders.byContainer[id]) > 0
	r.mu.Unlock()
	if recorded {
		return true
	}
	if len(r.settings.Types) > 0 {
		return slices.Contains(r.settings.Types, t)
	}
	_, served := r.executables.Select(t)
	return served
}
