package verb

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// apply makes all changes of an ADD, for a new container and for a running one, in this order:
//
//  1. checkInterface and compare determine the differences and import certificates. They change no connection.
//  2. markIncomplete records in state.json that a reconfigure is incomplete, so that CHECK accepts the
//     intermediate states until finish.
//  3. retire deletes the connections that are unwanted or have changed, or stops the daemon. pluto then sends
//     DELETE to the peers, for which it needs the former addresses and routes.
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
	if err := c.retire(ctx, d); err != nil {
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

// daemonChanges lists what has to change in the daemon. A conn has a file exactly as long as the daemon has the conn,
// so the next ADD finds the remaining changes if this one is interrupted.
type daemonChanges struct {
	stop   bool             // the daemon is not needed, or belongs to a container whose state was lost
	start  bool             // no daemon runs
	files  []string         // conns whose files have to be removed
	retire []string         // conns that the daemon has to delete
	load   []libreswan.Spec // conns that the daemon has to load afterwards
	same   []libreswan.Spec // conns that the daemon already has in their wanted form
}

func (d *daemonChanges) any() bool {
	return d.stop || d.start || len(d.files)+len(d.retire)+len(d.load) > 0
}

// compareConns returns what has to change in a running daemon. Its inputs are the wanted conns, the files of the
// recorded conns, and the conns that the daemon has. A changed conn is deleted before its new form is loaded, although
// the daemon may refuse the new form.
//
// A conn whose file was written by an earlier version is kept if connected contains it: replacing it could delete the
// IKE SA that other tunnels to the same peer share.
func compareConns(specs []libreswan.Spec, files map[string][]byte, loaded map[string]libreswan.Conn,
	connected map[string]bool,
) daemonChanges {
	var changes daemonChanges
	files, loaded = maps.Clone(files), maps.Clone(loaded)
	for _, s := range specs {
		// An unoriented conn was loaded when its local address did not exist. It has no tunnel and has to be loaded again.
		unchanged := bytes.Equal(files[s.Name], s.Text) || connected[s.Name] && bytes.Equal(files[s.Name], s.Former)
		if conn, loadedNow := loaded[s.Name]; loadedNow && !conn.Unoriented && unchanged {
			changes.same = append(changes.same, s)
			delete(files, s.Name)
			delete(loaded, s.Name)
		} else {
			changes.load = append(changes.load, s)
		}
	}
	changes.files, changes.retire = slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(loaded))
	return changes
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
	specs := c.specs(c.request.configuration.Wanted())
	switch {
	case len(specs) == 0:
		// A key database remains if a daemon ran and was killed. Its policies and states have to be removed.
		_, err := os.Lstat(d.NSS())
		c.changes.stop = c.before != nil && (err == nil || !details.Gone())
	case c.before == nil && !details.Gone():
		// The container is new, but the unit exists. It belongs to this container if only its directory was lost, or else to
		// another one.
		if details.Owner.Network != d.Owner.Network || details.Owner.Name != d.Owner.Name {
			return fail(codeNameTaken, "unit %s exists and is not this container's", d.Unit())
		}
		c.changes = daemonChanges{stop: true, start: true, load: specs}
	case details.Gone() || details.FailedForGood():
		c.changes = daemonChanges{start: true, load: specs}
	default:
		return c.compareRunning(ctx, d, details, specs)
	}
	return nil
}

// markIncomplete records that a reconfigure is incomplete, and what it does not change. What an earlier reconfigure
// that is still incomplete has changed remains excluded.
func (c *change) markIncomplete() error {
	earlier := c.recorded.Incomplete
	if c.before == nil || earlier == nil && !c.changes.any() && reflect.DeepEqual(c.old, c.plan) {
		return nil
	}
	now := state.Incomplete{
		Network: network.Plan{Interface: c.plan.Interface, Chained: c.plan.Chained},
		Bridges: []string{c.before.Bridge, c.request.bridge()},
		Peers:   slices.Clone(c.plan.Guard.Peers),
		Daemon:  !c.changes.stop && !c.changes.start && len(c.request.configuration.Wanted()) > 0,
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

// retire deletes conns that are unwanted or have changed, or stops the daemon.
func (c *change) retire(ctx context.Context, d *libreswan.Daemon) error {
	if c.changes.stop {
		return c.stop(ctx, d)
	}
	for _, conn := range c.changes.files {
		if err := c.dir.Delete(connFile(conn)); err != nil {
			return err
		}
	}
	return d.Delete(ctx, c.changes.retire...)
}

// load loads the new conns into the daemon, or starts a daemon.
func (c *change) load(ctx context.Context, d *libreswan.Daemon) error {
	switch {
	case c.keepsOutdated || len(c.request.configuration.Wanted()) == 0:
		return nil
	case c.changes.start:
		return c.start(ctx, d, c.changes.load)
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

// completion returns the request for the ADD that completes an incomplete reconfigure, or nil.
func completion(s *state.State) *spec.Again {
	if s.Incomplete == nil {
		return nil
	}
	return &spec.Again{Reason: "a reconfigure is incomplete"}
}
