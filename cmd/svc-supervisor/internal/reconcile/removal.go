package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/decide"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// removal removes a container from the host: by DEL, and then whatever with our owner tag is left.
type removal struct {
	verbs   *verbs
	unitsOf func(context.Context, spec.Name) ([]unit.Unit, error) // returns the units that a name may use, of any owner
	units   interface {
		Owner(ctx context.Context, unit string) (spec.Owner, bool, error)
		Stop(ctx context.Context, unit string) error
	}
	links interface {
		Remove(spec.Name) error
	}
	namespaces interface {
		Path(spec.Name) string
		Remove(context.Context, spec.Name) error
	}
}

// end runs DEL and then removes the resources with our owner tag that the executable left.
func (r *removal) end(ctx context.Context, s *snapshot, c spec.Container, record *statedir.Record) error {
	conf := &spec.Conf{CNIVersion: spec.CNIVersion, Name: spec.Network, Container: &c}
	if record != nil && record.Conf != nil {
		copied := *record.Conf
		conf, conf.PrevResult = &copied, record.Result
	}
	if err := r.runDel(ctx, s, c, conf, s.ForRecorded); err != nil {
		return err
	}
	return r.sweep(ctx, s)
}

// runDel runs DEL. It passes the path of the namespace only if the namespace exists and is ours.
func (r *removal) runDel(
	ctx context.Context, s *snapshot, c spec.Container, conf *spec.Conf, e plugin.Executable,
) error {
	conf.Type = plugin.CNIType(e.Path)
	stdin, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	namespace := ""
	if s.Facts.Namespace == decide.NamespaceOurs {
		namespace = r.namespaces.Path(s.Name)
	}
	_, err = r.verbs.runFor(ctx, c, spec.Del, e, namespace, stdin)
	return err
}

// sweep stops the units that are left and removes veth and namespace. It does nothing if the namespace of this name is
// foreign, because then unit and veth are foreign too.
func (r *removal) sweep(ctx context.Context, s *snapshot) error {
	if s.Facts.Namespace == decide.NamespaceForeign {
		return nil
	}
	units, err := r.unitsOf(ctx, s.Name)
	if err != nil {
		return err
	}
	for _, u := range units {
		owned, err := r.owns(ctx, s, u.Name)
		if err != nil {
			return err
		}
		if !owned {
			continue
		}
		if err := r.units.Stop(ctx, u.Name); err != nil {
			return err
		}
	}
	if err := r.links.Remove(s.Name); err != nil && !errors.Is(err, netns.ErrForeign) {
		return err
	}
	if err := r.namespaces.Remove(ctx, s.Name); err != nil && !errors.Is(err, netns.ErrForeign) {
		return err
	}
	return nil
}

// owns reports whether a unit of the name is ours: the record names it, or it has our owner tag. A unit has the tag
// before a record names it.
func (r *removal) owns(ctx context.Context, s *snapshot, unit string) (bool, error) {
	if s.Record() != nil && slices.Contains(s.Record().Units(), unit) {
		return true, nil
	}
	owner, ok, err := r.units.Owner(ctx, unit)
	return ok && owner.Ours(s.Name), err
}
