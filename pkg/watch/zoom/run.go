package zoom

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// restlessMost is how long a set is kept back while nodes go on changing: by then it is handed over as it was read last.
const restlessMost = time.Second

// Run reads what the host's node leads to, and again what events mark, until ctx ends. Every node of a set was read after
// the last event that came for it, and so a set has no reference to what the same transaction has removed.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	host, err := n.uuid()
	if err != nil {
		return err
	}
	heard := newEvents()
	if err := n.session.listen(heard); err != nil {
		return err
	}
	defer func() { _ = n.session.listen(nil) }()
	rescan := time.NewTicker(n.location.Rescan)
	defer rescan.Stop()
	nodes := newCache()
	ledger := native.NewLedger(n.log)
	assembler := model.NewAssembler(n.location.Tree, host)
	var last *spec.Desired
	var restless time.Time // since when a set is kept back
	for ctx.Err() == nil && n.life.Err() == nil {
		urgent := last != nil && !restless.IsZero() && time.Since(restless) > restlessMost && !heard.returned()
		if !urgent {
			fired, back, fresh := heard.take()
			nodes.mark(fired, back, fresh)
			if back {
				restless = time.Time{}
			}
		}
		if len(nodes.stale) > 0 {
			n.fetch(ctx, nodes, heard, slices.Collect(maps.Keys(nodes.stale)))
			continue
		}
		result := assembler.Assemble(nodes)
		if !result.Final {
			n.fetch(ctx, nodes, heard, result.Missing)
			continue
		}
		if heard.pending() && !urgent {
			restless = earlier(restless)
			continue
		}
		restless = time.Time{}
		nodes.keep(result.Paths)
		n.explain(ctx, host, nodes, &result)
		ledger.Tell(result.Faults, result.Desired.Unread == "")
		if last == nil || !last.Equal(&result.Desired) {
			last = &result.Desired
			changed(result.Desired)
		}
		select {
		case <-ctx.Done():
		case <-n.life.Done():
		case <-heard.wake:
		case <-rescan.C:
			nodes.mark(nil, true, false)
			n.running.Go(n.republish)
		}
	}
	return nil
}

// earlier is the time that is kept: the first one.
func earlier(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// explain says of a host without a Host object whether the whole tree is missing: a wrong root is told by its name.
func (n *NSDB) explain(ctx context.Context, host model.UUID, nodes *cache, result *model.Result) {
	object := n.location.Tree.Object(model.Host, host)
	if _, state := nodes.Get(object); state != model.Absent || result.Desired.Unread == "" {
		return
	}
	path := n.location.Tree.Objects(model.Host)
	there, err := ask(ctx, n, func(c *client) (bool, error) {
		there, _, err := c.Exists(path)
		return there, err
	})
	if err != nil || there {
		return
	}
	fault := native.Fault{
		Key:  native.Key(path),
		Text: "no such node: nothing is known of this host, and all stays as it is: allowed: in the URL, the root key of a MidoNet cluster (zookeeper.root_key), like " + model.DefaultRoot,
	}
	result.Faults = slices.DeleteFunc(result.Faults, func(f native.Fault) bool { return string(f.Key) == object })
	result.Faults = append(result.Faults, fault)
	result.Desired.Unread = fault.String()
}
