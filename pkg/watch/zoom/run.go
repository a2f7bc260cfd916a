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

// maxDelay is how long a set is delayed while nodes keep changing. Then the last state that was read is reported.
const maxDelay = time.Second

// Run reads the nodes that the host's object leads to, and reads them again after events, until ctx ends. A set is
// reported only after all its nodes were read again after their last event. So an object in the set never refers to an
// object that the same transaction has removed.
func (n *NSDB) Run(ctx context.Context, changed func(spec.Desired)) error {
	host, err := n.uuid()
	if err != nil {
		return err
	}
	pendingEvents := newEvents()
	if err := n.session.setListener(pendingEvents); err != nil {
		return err
	}
	defer func() { _ = n.session.setListener(nil) }()
	rescan := time.NewTicker(n.location.Rescan)
	defer rescan.Stop()
	nodes := newCache()
	ledger := native.NewLedger(n.log)
	assembler := model.NewAssembler(n.location.Tree, host)
	var last *spec.Desired
	var delayedSince time.Time // start of the current delay; zero: none
	for ctx.Err() == nil && n.ctx.Err() == nil {
		urgent := last != nil && !delayedSince.IsZero() && time.Since(delayedSince) > maxDelay &&
			!pendingEvents.hasReconnected()
		if !urgent {
			fired, reconnected, newSession := pendingEvents.drain()
			nodes.mark(fired, reconnected, newSession)
			if reconnected {
				delayedSince = time.Time{}
			}
		}
		if len(nodes.stale) > 0 {
			n.fetch(ctx, nodes, pendingEvents, slices.Collect(maps.Keys(nodes.stale)))
			continue
		}
		result := assembler.Assemble(nodes)
		if !result.Final {
			n.fetch(ctx, nodes, pendingEvents, result.Missing)
			continue
		}
		if pendingEvents.pending() && !urgent {
			delayedSince = orNow(delayedSince)
			continue
		}
		delayedSince = time.Time{}
		nodes.retain(result.Paths)
		n.reportWrongRoot(ctx, host, nodes, &result)
		ledger.Tell(result.Faults, result.Desired.Unread == "")
		if last == nil || !last.Equal(&result.Desired) {
			last = &result.Desired
			changed(result.Desired)
		}
		select {
		case <-ctx.Done():
		case <-n.ctx.Done():
		case <-pendingEvents.wake:
		case <-rescan.C:
			nodes.mark(nil, true, false)
			n.notifySessionChanged()
		}
	}
	return nil
}

// orNow returns t, or the current time if t is zero.
func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// reportWrongRoot replaces the fault of a missing Host object if the whole tree is missing. Then the root key in the
// URL is wrong, and the fault names it.
func (n *NSDB) reportWrongRoot(ctx context.Context, host model.UUID, nodes *cache, result *model.Result) {
	object := n.location.Tree.Object(model.Host, host)
	if _, state := nodes.Get(object); state != model.Absent || result.Desired.Unread == "" {
		return
	}
	path := n.location.Tree.Objects(model.Host)
	exists, err := runInSession(ctx, n, func(c *client) (bool, error) {
		exists, _, err := c.Exists(path)
		return exists, err
	})
	if err != nil || exists {
		return
	}
	fault := native.Fault{
		Key: native.Key(path),
		Text: "no such node: the host is unknown, and nothing is changed: " +
			"allowed: in the URL, the root key of a MidoNet cluster (zookeeper.root_key), like " + model.DefaultRoot,
	}
	result.Faults = slices.DeleteFunc(result.Faults, func(f native.Fault) bool { return string(f.Key) == object })
	result.Faults = append(result.Faults, fault)
	result.Desired.Unread = fault.String()
}
