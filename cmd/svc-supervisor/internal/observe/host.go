package observe

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
func (o *Observer) observeHost(ctx context.Context, s *Snapshot) {
	namespace, err := o.namespaces.Observe(s.Name)
	if err != nil {
		s.HostProblem = err.Error()
		return
	}
	link, err := o.links.Observe(s.Name)
	if err != nil {
		s.HostProblem = err.Error()
		return
	}
	if s.Units == nil {
		s.Units, err = o.UnitsOf(ctx, s.Name)
	}
	if err != nil {
		s.HostProblem = err.Error()
		return
	}
	s.Facts.Readable = true
	switch namespace.State {
	case netns.Ours:
		s.Facts.Namespace, s.Tag = decide.NamespaceOurs, namespace.Owner
		if s.Facts.Record == decide.Damaged && s.Facts.IsWanted() &&
			s.Tag.ContainerID != s.Claim.Binding.Container.ContainerID {
			s.Facts.Wanted = decide.WantedOther // the record is damaged, so the owner tag tells which container it is
		}
	case netns.Foreign:
		// The namespace decides for the whole name: unit and veth of the same name belong to its owner too.
		s.Facts.Namespace = decide.NamespaceForeign
		s.markTaken("namespace %s exists and is not ours", s.Name)
	}
	if link.State == netns.Foreign {
		s.markTaken("interface %s exists and is not ours", s.Name)
	}
	if link.State == netns.Ours {
		s.Packets = &Packets{In: link.Sent, Out: link.Received}
	}
	s.Facts.Units = unitsState(s.Record(), s.Units)
	if s.Facts.IsWanted() && (s.Facts.Units == decide.UnitsGone || s.Facts.Units == decide.UnitsFailed) {
		s.Facts.HostShuttingDown, err = o.units.ShuttingDown(ctx)
		if err != nil {
			s.Facts.Readable, s.HostProblem = false, err.Error()
			return
		}
	}
	if s.Facts.Namespace != decide.NamespaceForeign {
		owned, err := o.ownedUnit(ctx, s)
		if err != nil {
			s.Facts.Readable, s.HostProblem = false, err.Error()
			return
		}
		switch {
		case namespace.State == netns.Ours:
			s.Leftover = "namespace " + string(s.Name)
		case link.State == netns.Ours:
			s.Leftover = "interface " + string(s.Name)
		default:
			s.Leftover = owned
		}
		s.Facts.Leftover = s.Leftover != ""
	}
}

func (s *Snapshot) markTaken(format string, name spec.Name) {
	s.Facts.Taken = true
	s.Claim.Taken = fmt.Sprintf(format, name)
}

// ownedUnit returns the first unit that has our owner tag, or "". If the main unit of the name exists without our tag,
// it marks the name as taken. It does so only if the name has no record, since the result does not matter otherwise.
func (o *Observer) ownedUnit(ctx context.Context, s *Snapshot) (string, error) {
	if s.Facts.Record != decide.NoRecord {
		return "", nil
	}
	for _, u := range s.Units {
		owner, ok, err := o.units.Owner(ctx, u.Name)
		switch {
		case err != nil:
			return "", err
		case ok && owner.Ours(s.Name):
			return u.Name, nil
		case u.Name == s.Name.Unit() && !u.Gone():
			s.markTaken("unit svc-%s.service exists and is not ours", s.Name)
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
