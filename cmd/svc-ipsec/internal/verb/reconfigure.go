package verb

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// apply makes all changes of an ADD, for a new container and for a running one, in this order:
//
//  1. checkInterface and compare determine the differences and import certificates. They change no connection.
//  2. markIncomplete records in state.json that a reconfigure is incomplete, so that CHECK accepts the
//     intermediate states until finish.
//  3. The actions of endpoint.Plan.Retire delete the connections that are unwanted or have changed, or stop the daemon.
//     pluto then sends DELETE to the peers, for which it needs the former addresses and routes.
//  4. network changes interface, addresses, routes and guard.
//  5. load loads the new connections into the daemon, or starts a daemon. They need the new addresses and routes.
//  6. finish records the new state of the container in state.json.
//
// If a step fails, restore makes the changes from the wanted configuration back to the former one, in the same order.
// If the verb is killed, or if restore fails too, the next ADD completes the reconfigure.
func (c *change) apply(ctx context.Context, d *libreswan.Daemon) (err error) {
	if c.namespace, err = network.Open(c.attachment.Namespace); err != nil {
		return err
	}
	defer c.namespace.Close()
	if err := c.checkInterface(ctx); err != nil {
		return err
	}
	if err := c.compare(ctx, d); err != nil {
		return err
	}
	if err := c.markIncomplete(); err != nil {
		return err
	}
	if err := c.do(ctx, d, c.changes.Retire()); err != nil {
		return err
	}
	if err := c.network(ctx); err != nil {
		return err
	}
	if err := c.load(ctx, d); err != nil {
		return err
	}
	return c.finish()
}

// compare sets c.changes to what has to change in the daemon.
func (c *change) compare(ctx context.Context, d *libreswan.Daemon) error {
	if c.keepsOutdated {
		return nil
	}
	details, err := c.Bus.Show(ctx, d.Unit())
	if err != nil {
		return err
	}
	conns := endpoint.Conns(c.request.configuration.Wanted())
	_, noDatabase := os.Lstat(d.NSS())
	unit := endpoint.Unit{
		New: c.before == nil, Exists: !details.Gone(), Failed: details.FailedForGood(), Database: noDatabase == nil,
	}
	// The container is new, but the unit exists. It belongs to this container if only its directory was lost, or else to
	// another one.
	if len(conns) > 0 && unit.New && unit.Exists &&
		(details.Owner.Network != d.Owner.Network || details.Owner.Name != d.Owner.Name) {
		return fail(codeNameTaken, "unit %s exists and is not this container's", d.Unit())
	}
	var running bool
	if c.changes, running = endpoint.PlanUnit(unit, conns); running {
		return c.compareRunning(ctx, d, details, conns)
	}
	return nil
}

// markIncomplete records that a reconfigure is incomplete, and what it does not change. What an earlier reconfigure
// that is still incomplete has changed remains excluded.
func (c *change) markIncomplete() error {
	earlier := c.recorded.Incomplete
	if c.before == nil || earlier == nil && !c.changes.Changes() && reflect.DeepEqual(c.old, c.plan) {
		return nil
	}
	now := state.Incomplete{
		Network: network.Plan{Interface: c.plan.Interface, Chained: c.plan.Chained},
		Bridges: []string{c.before.Bridge, c.request.bridge()},
		Peers:   slices.Clone(c.plan.Guard.Peers),
		Daemon:  !c.changes.Stop && !c.changes.Start && len(c.request.configuration.Wanted()) > 0,
	}
	if c.old != nil {
		now.Network, now.Peers = *c.old.Common(c.plan), append(now.Peers, c.old.Guard.Peers...)
	}
	if earlier != nil {
		now.Network = *earlier.Network.Common(c.plan)
		now.Bridges, now.Peers = append(now.Bridges, earlier.Bridges...), append(now.Peers, earlier.Peers...)
		now.Daemon = now.Daemon && earlier.Daemon
	}
	slices.Sort(now.Bridges)
	now.Bridges = slices.DeleteFunc(slices.Compact(now.Bridges), func(name string) bool { return name == "" })
	slices.SortFunc(now.Peers, netip.Prefix.Compare)
	now.Peers = slices.Compact(now.Peers)
	c.recorded.Incomplete, c.marked = &now, true
	return c.dir.Save(c.recorded)
}

// bridges returns the bridges of which the host's end of the veth may be a port.
func (c *change) bridges() []string {
	switch {
	case c.recorded.Incomplete != nil:
		return c.recorded.Incomplete.Bridges
	case c.before != nil && c.before.Bridge != "":
		return []string{c.before.Bridge}
	}
	return nil
}

// do executes actions in their order.
func (c *change) do(ctx context.Context, d *libreswan.Daemon, actions []endpoint.Action) error {
	for _, action := range actions {
		var err error
		switch action.Op {
		case endpoint.OpStop:
			err = c.stop(ctx, d)
		case endpoint.OpRemoveFiles:
			err = c.removeFiles(action.Conns)
		case endpoint.OpDelete:
			err = d.Delete(ctx, action.Conns...)
		case endpoint.OpRereadSecrets:
			err = d.RereadSecrets(ctx)
		case endpoint.OpListen:
			err = d.Listen(ctx)
		case endpoint.OpLoad:
			err = c.loadConns(ctx, d, c.changes.Load)
		case endpoint.OpTerminate:
			err = d.Terminate(ctx, action.Conns...)
		case endpoint.OpInitiate:
			err = d.Initiate(ctx, action.Conns...)
		default:
			err = fmt.Errorf("unknown action %s", action)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *change) removeFiles(conns []string) error {
	for _, conn := range conns {
		if err := c.dir.Delete(connFile(conn)); err != nil {
			return err
		}
	}
	return nil
}

// load loads the new conns into the daemon, or starts a daemon.
func (c *change) load(ctx context.Context, d *libreswan.Daemon) error {
	switch {
	case c.keepsOutdated || len(c.request.configuration.Wanted()) == 0:
		return nil
	case c.changes.Start:
		return c.start(ctx, d, c.changes.Load)
	}
	if err := c.loadRunning(ctx, d); err != nil {
		return err
	}
	c.prune(ctx, d)
	return nil
}

// restore returns a running container to the network and the connections of the last successful ADD.
func (c *change) restore() {
	if !c.marked {
		return // nothing was changed
	}
	ctx, cancel := c.cleanupBudget()
	defer cancel()
	back, err := c.changeBack()
	if err == nil {
		err = back.apply(ctx, back.daemon(c.tools, c.request.owner, c.dir.Path, c.recorded))
	}
	if err != nil {
		c.Log.Warn("incomplete reconfigure not taken back, the next ADD completes it",
			slog.String("container", string(c.request.owner.Name)), slog.Any("error", err))
	}
}

// changeBack returns the change from the configuration that failed back to that of the last successful ADD, with the
// key files, certificates and addresses that that ADD had found.
func (c *change) changeBack() (*change, error) {
	request, err := c.lastRequest()
	if err != nil {
		return nil, err
	}
	back := &change{
		Executable: c.Executable, request: request, raw: c.recorded.Configuration, dir: c.dir, recorded: c.recorded,
		before: c.before, attachment: *c.before, tools: c.tools, old: c.plan, refused: map[string]string{},
		edits: c.recorded.Edits, valid: c.recorded.LastValid,
	}
	if back.valid == nil {
		back.valid = request.document
	}
	loaded, err := back.daemon(c.tools, request.owner, c.dir.Path, c.recorded).Loaded()
	if err != nil {
		return nil, err
	}
	back.plan, err = c.planOf(request, loaded)
	return back, err
}

// lastRequest returns the request of the last successful ADD.
func (c *change) lastRequest() (*request, error) {
	return decode(&skel.CmdArgs{
		ContainerID: string(c.before.ContainerID), IfName: c.before.Interface, StdinData: c.recorded.Configuration,
	})
}

// planOf resolves the request of the last successful ADD and returns the network that it configured.
func (c *change) planOf(former *request, loaded map[string][]byte) (*network.Plan, error) {
	former.configuration.Found = c.recorded.Found.Config()
	former.configuration.Resolve(former.prepareResolve(loaded, c.recorded.Chosen))
	return former.plan()
}

// oldPlan returns the network that the last successful ADD configured, or nil if it is unknown.
func (c *change) oldPlan(loaded map[string][]byte) *network.Plan {
	if c.before == nil {
		return nil
	}
	former, err := c.lastRequest()
	if err != nil {
		return nil
	}
	plan, err := c.planOf(former, loaded)
	if err != nil {
		return nil
	}
	return plan
}

// incompleteMessage is the health message of a container whose reconfigure is neither complete nor undone.
const incompleteMessage = "a reconfigure is incomplete, the next ADD completes it"
