package reconcile

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// leftovers finds the resources with our owner tag on the whole host.
type leftovers struct {
	namespaces interface {
		List() ([]netns.Namespace, error)
		ReleaseUnused(ctx context.Context, inUse func(spec.Name) bool) error
	}
	links interface {
		List() ([]netns.Link, error)
	}
	units interface {
		List(ctx context.Context, patterns ...string) ([]unit.Unit, error)
	}
	mark func(spec.Name)
}

// find marks names, see Reconciler.FindLeftovers. recorded are the names whose record describes a container. hasSlot
// reports whether a name has a record of any phase or is about to get one.
func (l *leftovers) find(ctx context.Context, recorded map[spec.Name]bool, hasSlot func(spec.Name) bool) error {
	namespaces, err := l.namespaces.List()
	if err != nil {
		return err
	}
	links, err := l.links.List()
	if err != nil {
		return err
	}
	units, err := l.units.List(ctx, "svc-*.service")
	if err != nil {
		return err
	}
	found, present := map[spec.Name]bool{}, map[spec.Name]bool{}
	for _, n := range namespaces {
		if n.Owner.Ours(n.Name) {
			found[n.Name], present[n.Name] = true, true
		}
	}
	for _, link := range links {
		found[link.Name] = true
	}
	for _, u := range units {
		if name, ok := spec.UnitOwner(u.Name); ok {
			found[name] = true
		}
	}
	for name := range found {
		if !recorded[name] {
			l.mark(name)
		}
	}
	for name := range recorded {
		if !present[name] {
			l.mark(name)
		}
	}
	// A name gets its slot before ADD allocates its user id, and loses it after the user id was released.
	return l.namespaces.ReleaseUnused(ctx, func(name spec.Name) bool { return found[name] || hasSlot(name) })
}
