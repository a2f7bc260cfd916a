package zoom

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/zoom/model"
)

// maxDelay is how long a set is delayed while nodes keep changing. Then the last state that was read is reported.
const maxDelay = time.Second

// reader reads and watches the desired state of one host.
type reader struct {
	conn           *connection
	host           model.UUID
	sessionChanged signal.Signal
}

// run reads the nodes that the host's object leads to, and reads them again after events, until ctx ends. A set is
// reported only after all its nodes were read again after their last event. So an object in the set never refers to an
// object that the same transaction has removed.
func (r *reader) run(ctx context.Context, changed func(spec.Desired)) error {
	pendingEvents := newEvents()
	if err := r.conn.session.setListener(pendingEvents); err != nil {
		return err
	}
	defer func() { _ = r.conn.session.setListener(nil) }()
	rescan := time.NewTicker(r.conn.location.Rescan)
	defer rescan.Stop()
	nodes := newCache()
	faultLog := native.NewFaultLog(r.conn.log)
	assembler := model.NewAssembler(r.conn.location.Tree, r.host)
	var last *spec.Desired
	var delayedSince time.Time // start of the current delay; zero: none
	for ctx.Err() == nil && r.conn.ctx.Err() == nil {
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
			r.fetch(ctx, nodes, pendingEvents, slices.Collect(maps.Keys(nodes.stale)))
			continue
		}
		result := assembler.Assemble(nodes)
		if !result.Final {
			r.fetch(ctx, nodes, pendingEvents, result.Missing)
			continue
		}
		if pendingEvents.pending() && !urgent {
			delayedSince = orNow(delayedSince)
			continue
		}
		delayedSince = time.Time{}
		nodes.retain(result.Paths)
		r.reportWrongRoot(ctx, nodes, &result)
		faultLog.Update(result.Faults, result.Desired.Unread == "")
		if last == nil || !last.Equal(&result.Desired) {
			last = &result.Desired
			changed(result.Desired)
		}
		select {
		case <-ctx.Done():
		case <-r.conn.ctx.Done():
		case <-pendingEvents.wake:
		case <-rescan.C:
			nodes.mark(nil, true, false)
			r.sessionChanged.Send()
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
func (r *reader) reportWrongRoot(ctx context.Context, nodes *cache, result *model.Result) {
	object := r.conn.location.Tree.Object(model.Host, r.host)
	if _, state := nodes.Get(object); state != model.Absent || result.Desired.Unread == "" {
		return
	}
	path := r.conn.location.Tree.Objects(model.Host)
	exists, err := runInSession(ctx, r.conn, func(c *client) (bool, error) {
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
