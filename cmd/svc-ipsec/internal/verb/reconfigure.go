package verb

import (
	"context"
	"log/slog"
	"reflect"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
)

// apply makes all changes of an ADD, for a new container and for a running one, in this order:
//
//  1. networkChange.check and daemonChange.compare determine the differences and import certificates. They change no
//     connection.
//  2. markIncomplete records in state.json that a reconfigure is incomplete, so that CHECK accepts the
//     intermediate states until finish.
//  3. The actions of endpoint.Plan.Retire delete the connections that are unwanted or have changed, or stop the daemon.
//     pluto then sends DELETE to the peers, for which it needs the former addresses and routes.
//  4. networkChange.apply changes interface, addresses, routes and guard.
//  5. daemonChange.load loads the new connections into the daemon, or starts a daemon. They need the new addresses and
//     routes.
//  6. finish records the new state of the container in state.json.
//
// If a step fails, restore makes the changes from the wanted configuration back to the former one, in the same order.
// If the verb is killed, or if restore fails too, the next ADD completes the reconfigure.
func (c *change) apply(ctx context.Context) error {
	namespace, err := network.Open(c.attachment.Namespace)
	if err != nil {
		return err
	}
	defer namespace.Close()
	c.network.namespace, c.daemon.namespace, c.daemon.path = namespace, namespace, c.attachment.Namespace
	if err := c.network.check(ctx, c.Bus, c.request.Configuration.ExternalIPs); err != nil {
		return err
	}
	if err := c.daemon.compare(ctx, c.record.isNew()); err != nil {
		return err
	}
	if err := c.markIncomplete(); err != nil {
		return err
	}
	if err := c.daemon.do(ctx, c.daemon.plan.Retire()); err != nil {
		return err
	}
	if err := c.network.apply(ctx); err != nil {
		return err
	}
	if err := c.daemon.load(ctx, c.restoreGuard); err != nil {
		return err
	}
	return c.finish()
}

// markIncomplete records that a reconfigure is incomplete, unless the container is new or nothing has to change.
func (c *change) markIncomplete() error {
	r, plan, n := c.record, &c.daemon.plan, c.network
	if r.isNew() || r.state.Incomplete == nil && !plan.Changes() && reflect.DeepEqual(n.old, n.plan) {
		return nil
	}
	daemonStays := !plan.Stop && !plan.Start && len(c.daemon.wanted) > 0
	return r.markIncomplete(n.old, n.plan, c.request.Bridge(), daemonStays)
}

// restoreGuard installs the XFRM policies of a guard again after a daemon was started: Libreswan 5 flushes all policies
// when it starts.
func (c *change) restoreGuard(ctx context.Context) error {
	if !c.network.plan.Guard.HasPolicies(c.attachment.Guard) {
		return nil
	}
	if _, err := awaitConns(ctx, c.daemon.daemon, nil); err != nil {
		return err
	}
	return c.network.setGuard(ctx, c.network.plan.Guard)
}

// restore returns a running container to the network and the connections of the last successful ADD.
func (c *change) restore() {
	if !c.record.marked {
		return // nothing was changed
	}
	ctx, cancel := c.cleanupBudget()
	defer cancel()
	back, err := c.changeBack()
	if err == nil {
		err = back.apply(ctx)
	}
	if err != nil {
		c.Log.Warn("incomplete reconfigure not taken back, the next ADD completes it",
			slog.String("container", string(c.request.Owner.Name)), slog.Any("error", err))
	}
}

// changeBack returns the change from the configuration that failed back to that of the last successful ADD, with the
// key files, certificates and addresses that that ADD had found.
func (c *change) changeBack() (*change, error) {
	request, err := c.record.lastRequest()
	if err != nil {
		return nil, err
	}
	s := c.record.state
	back := &change{
		Executable: c.Executable, request: request, tools: c.tools, record: c.record, attachment: *c.record.before,
		edits: &edits{
			request: request, record: c.record, conf: s.Configuration, refused: s.RefusedEdits, valid: s.LastValid,
		},
	}
	if back.edits.valid == nil {
		back.edits.valid = request.Document
	}
	loaded, err := back.newDaemon().Files().Loaded()
	if err != nil {
		return nil, err
	}
	plan, err := c.record.resolve(request, loaded)
	if err != nil {
		return nil, err
	}
	back.daemon, back.network = back.newDaemonChange(nil), back.newNetworkChange(plan, c.network.plan)
	return back, nil
}
