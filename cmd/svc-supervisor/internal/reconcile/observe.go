package reconcile

import (
	"context"
	"fmt"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// observeHost reads namespace, veth and units of the name. If one of them cannot be read, the state is unknown, not
// absent.
func (r *Reconciler) observeHost(ctx context.Context, s *snapshot) {
	namespace, err := r.namespaces.Observe(s.name)
	if err != nil {
		s.hostProblem = err.Error()
		return
	}
	link, err := r.links.Observe(s.name)
	if err != nil {
		s.hostProblem = err.Error()
		return
	}
	s.units, err = r.unitsOf(ctx, s.name)
	if err != nil {
		s.hostProblem = err.Error()
		return
	}
	s.facts.Readable = true
	switch namespace.State {
	case netns.Ours:
		s.facts.Namespace, s.tag = decide.NamespaceOurs, namespace.Owner
		if s.facts.Record == decide.Damaged && s.facts.IsWanted() &&
			s.tag.ContainerID != s.claim.binding.Container.ContainerID {
			s.facts.Wanted = decide.WantedOther // the record is damaged, so the owner tag tells which container it is
		}
	case netns.Foreign:
		// The namespace decides for the whole name: unit and veth of the same name belong to its owner too.
		s.facts.Namespace = decide.NamespaceForeign
		s.markTaken("namespace %s exists and is not ours", s.name)
	}
	if link.State == netns.Foreign {
		s.markTaken("interface %s exists and is not ours", s.name)
	}
	if link.State == netns.Ours {
		s.packets = &packets{in: link.Sent, out: link.Received}
	}
	s.facts.Units = unitsState(s.record(), s.units)
	if s.facts.IsWanted() && (s.facts.Units == decide.UnitsGone || s.facts.Units == decide.UnitsFailed) {
		s.facts.HostShuttingDown, err = r.units.ShuttingDown(ctx)
		if err != nil {
			s.facts.Readable, s.hostProblem = false, err.Error()
			return
		}
	}
	if s.facts.Namespace != decide.NamespaceForeign {
		owned, err := r.ownedUnit(ctx, s)
		if err != nil {
			s.facts.Readable, s.hostProblem = false, err.Error()
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

// unitsOf returns the units that the name may use, of any owner.
func (r *Reconciler) unitsOf(ctx context.Context, name spec.Name) ([]unit.Unit, error) {
	return r.units.List(ctx, name.Unit(), "svc-"+string(name)+":*.service")
}

func (s *snapshot) markTaken(format string, name spec.Name) {
	s.facts.Taken = true
	s.claim.taken = fmt.Sprintf(format, name)
}

// ownedUnit returns the first unit that has our owner tag, or "". If the main unit of the name exists without our tag,
// it marks the name as taken. It does so only if the name has no record, since the result does not matter otherwise.
func (r *Reconciler) ownedUnit(ctx context.Context, s *snapshot) (string, error) {
	if s.facts.Record != decide.NoRecord {
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

// unitsState summarizes the units that the record names. A unit that is not loaded is gone, because systemd unloads a
// transient unit when it stops.
func unitsState(record *statedir.Record, units []unit.Unit) decide.UnitsState {
	if record == nil {
		return decide.UnitsGood
	}
	state := decide.UnitsGood
	for _, name := range record.Units() {
		switch one := stateOf(name, units); {
		case one == decide.UnitsFailed:
			return decide.UnitsFailed
		case one > state:
			state = one
		}
	}
	return state
}

func stateOf(name string, units []unit.Unit) decide.UnitsState {
	for _, u := range units {
		switch {
		case u.Name != name:
		case u.FailedForGood():
			return decide.UnitsFailed
		case u.Gone():
			return decide.UnitsGone
		case u.Transitional():
			return decide.UnitsMoving
		default:
			return decide.UnitsGood
		}
	}
	return decide.UnitsGone
}
