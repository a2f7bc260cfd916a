package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// observeHost reads namespace, veth and units. What does not answer is unknown, never gone.
func (r *Reconciler) observeHost(ctx context.Context, s *snapshot) {
	namespace, err := r.namespaces.Observe(s.name)
	if err != nil {
		s.problem = err.Error()
		return
	}
	link, err := r.links.Observe(s.name)
	if err != nil {
		s.problem = err.Error()
		return
	}
	s.units, err = r.unitsOf(ctx, s.name)
	if err != nil {
		s.problem = err.Error()
		return
	}
	s.facts.Readable = true
	switch namespace.State {
	case netns.Ours:
		s.facts.Namespace, s.tag = NamespaceOurs, namespace.Owner
		if s.facts.Record == Damaged && s.facts.wanted() && s.tag.ContainerID != s.claim.binding.Container.ContainerID {
			s.facts.Wanted = WantedOther // the tag tells what the record does not
		}
	case netns.Foreign:
		// The namespace decides for the whole name: what else has the name is another's too.
		s.facts.Namespace = NamespaceForeign
		s.markTaken("namespace %s exists and is not ours", s.name)
	}
	if link.State == netns.Foreign {
		s.markTaken("interface %s exists and is not ours", s.name)
	}
	if link.State == netns.Ours {
		s.packets = &packets{in: link.Sent, out: link.Received}
	}
	s.facts.Units = unitsState(s.record(), s.units)
	if err := r.checkShutdown(ctx, s); err != nil {
		s.facts.Readable, s.problem = false, err.Error()
		return
	}
	if s.facts.Namespace != NamespaceForeign {
		owned, err := r.ownedUnit(ctx, s)
		if err != nil {
			s.facts.Readable, s.problem = false, err.Error()
			return
		}
		switch {
		case namespace.State == netns.Ours:
			s.leftover = "namespace " + string(s.name)
		case link.State == netns.Ours:
			s.leftover = "interface " + string(s.name)
		default:
			s.leftover = owned
		}
		s.facts.Leftover = s.leftover != ""
	}
}

var errShuttingDown = errors.New("the host is shutting down")

// checkShutdown is an error where units of a container that is wanted stopped because everything does: nothing to heal.
func (r *Reconciler) checkShutdown(ctx context.Context, s *snapshot) error {
	if !s.facts.wanted() || s.facts.Units != UnitsGone && s.facts.Units != UnitsFailed {
		return nil
	}
	if down, err := r.units.ShuttingDown(ctx); down || err != nil {
		return cmp.Or(err, errShuttingDown)
	}
	return nil
}

// unitsOf lists the units that a name can have, whosever they are.
func (r *Reconciler) unitsOf(ctx context.Context, name spec.Name) ([]unit.Unit, error) {
	return r.units.List(ctx, name.Unit(), "svc-"+string(name)+":*.service")
}

func (s *snapshot) markTaken(format string, name spec.Name) {
	s.facts.Taken = true
	s.claim.taken = fmt.Sprintf(format, name)
}

// ownedUnit is the first unit that carries our tag, or ""; one that lives without it takes the name from an ADD. It asks only
// where there is no record: with one it does not matter.
func (r *Reconciler) ownedUnit(ctx context.Context, s *snapshot) (string, error) {
	if s.facts.Record != NoRecord {
		return "", nil
	}
	for _, u := range s.units {
		owner, ok, err := r.units.Owner(ctx, u.Name)
		switch {
		case err != nil:
			return "", err
		case ok && owner.Ours(s.name):
			return u.Name, nil
		case u.Name == s.name.Unit() && !u.Gone():
			s.markTaken("unit svc-%s.service exists and is not ours", s.name)
		}
	}
	return "", nil
}

// unitsState sums up the units that the record names. One that is not loaded is gone: systemd forgets a transient unit when
// it stops.
func unitsState(record *statedir.Record, units []unit.Unit) UnitsState {
	if record == nil {
		return UnitsGood
	}
	state := UnitsGood
	for _, name := range record.Units() {
		switch one := stateOf(name, units); {
		case one == UnitsFailed:
			return UnitsFailed
		case one > state:
			state = one
		}
	}
	return state
}

func stateOf(name string, units []unit.Unit) UnitsState {
	for _, u := range units {
		switch {
		case u.Name != name:
		case u.FailedForGood():
			return UnitsFailed
		case u.Gone():
			return UnitsGone
		case u.Transitional():
			return UnitsMoving
		default:
			return UnitsGood
		}
	}
	return UnitsGone
}
