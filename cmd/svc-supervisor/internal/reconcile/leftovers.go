package reconcile

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// FindLeftovers marks every name that has no record of a container but a namespace or veth with our owner tag or a unit
// with our name pattern. It also marks every name whose record has a container but whose namespace is missing. Then it
// releases the user ids of names that have nothing else; a crash can leave such a user id behind, even if the state
// directory was lost.
func (r *Reconciler) FindLeftovers(ctx context.Context) error {
	// The records are listed before the host is observed, since a container added during the observation is no leftover.
	return r.leftovers.find(ctx, r.desired.recordedNames(), r.desired.hasSlot)
}

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

// find does what FindLeftovers describes. recorded are the names whose record describes a container. hasSlot reports
// whether a name has a record of any phase or is about to get one.
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
