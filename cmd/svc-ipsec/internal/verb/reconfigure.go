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

// apply makes all changes of an ADD, on a new container as on one that runs, in this order:
//
//  1. checkInterface and compare find out what there is, and import certificates. They change no connection.
//  2. mark writes to state.json that a reconfigure is incomplete, so that CHECK accepts what it finds until finish.
//  3. retire deletes the connections that are not wanted any more, or wanted otherwise, or stops the daemon. pluto then informs the
//     peers (DELETE), for which it needs the former addresses and routes.
//  4. network changes interface, addresses, routes and guard.
//  5. load gives the daemon its new connections, or starts a daemon. They need the new addresses and routes.
//  6. finish writes to state.json what the container is now.
//
// If a step fails, restore makes the changes from the wanted configuration to the former one, in the same order. If the verb is
// killed, or if restore fails too, the next ADD completes what is left.
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
	if err := c.mark(); err != nil {
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

// daemonChanges is what has to change in the daemon. The file of a conn is there exactly while the daemon has that conn: whatever
// is cut short, the next ADD finds what is left to do.
type daemonChanges struct {
	stop   bool             // the daemon is not needed, or is left of a container whose state was lost
	start  bool             // there is none that runs
	files  []string         // conns whose files are removed
	retire []string         // conns that the daemon deletes
	load   []libreswan.Spec // conns that the daemon loads then
	same   []libreswan.Spec // conns that it has as they are wanted
}

func (d *daemonChanges) any() bool {
	return d.stop || d.start || len(d.files)+len(d.retire)+len(d.load) > 0
}

// compareConns returns what has to change in a daemon that runs, from the wanted conns, the files, and what the daemon has. A conn
// that the daemon may refuse in its new form does not go on in its old one.
//
// A conn with the file that an earlier version wrote stays while connected names it: tunnels to one peer share an IKE SA.
func compareConns(specs []libreswan.Spec, files map[string][]byte, loaded map[string]libreswan.Conn, connected map[string]bool) daemonChanges {
	var changes daemonChanges
	files, loaded = maps.Clone(files), maps.Clone(loaded)
	for _, s := range specs {
		// One that the daemon found no interface for was loaded when the address was not there, and has no tunnel.
		unchanged := bytes.Equal(files[s.Name], s.Text) || connected[s.Name] && bytes.Equal(files[s.Name], s.Former)
		if conn, there := loaded[s.Name]; there && !conn.Unoriented && unchanged {
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

// compare finds out what has to change in the daemon.
func (c *change) compare(ctx context.Context, d *libreswan.Daemon) error {
	if c.left {
		return nil
	}
	details, err := c.Bus.Show(ctx, d.Unit())
	if err != nil {
		return err
	}
	specs := c.specs(c.request.configuration.Wanted())
	switch {
	case len(specs) == 0:
		_, err := os.Lstat(d.NSS()) // one ran, and where it was killed its policies and states are left
		c.changes.stop = c.before != nil && (err == nil || !details.Gone())
	case c.before == nil && !details.Gone():
		// The name is new, the unit is not: one of ours whose directory was lost, or another's.
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

// mark writes that a reconfigure is incomplete, and what it does not change. What an earlier one that is still incomplete has
// changed stays unknown.
func (c *change) mark() error {
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
	return c.folder.Save(c.recorded)
}

// bridges lists those that the host's end of the veth may be a port of.
func (c *change) bridges() []string {
	switch {
	case c.recorded.Incomplete != nil:
		return c.recorded.Incomplete.Bridges
	case c.before != nil && c.before.Bridge != "":
		return []string{c.before.Bridge}
	}
	return nil
}

// retire takes out of the daemon what has to go.
func (c *change) retire(ctx context.Context, d *libreswan.Daemon) error {
	if c.changes.stop {
		return c.stop(ctx, d)
	}
	for _, conn := range c.changes.files {
		if err := c.folder.Delete(connFile(conn)); err != nil {
			return err
		}
	}
	return d.Delete(ctx, c.changes.retire...)
}

// load gives the daemon its new connections, or starts one.
func (c *change) load(ctx context.Context, d *libreswan.Daemon) error {
	switch {
	case c.left || len(c.request.configuration.Wanted()) == 0:
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

// restore brings a container that runs back to the configuration of the last good ADD, its network and its connections.
func (c *change) restore() {
	if !c.marked {
		return // nothing was changed
	}
	ctx, cancel := c.aside()
	defer cancel()
	back, err := c.former()
	if err == nil {
		err = back.apply(ctx, back.daemon(c.tools, c.request.owner, c.folder.Path, c.recorded))
	}
	if err != nil {
		c.Log.Warn("incomplete reconfigure not taken back, the next ADD completes it",
			slog.String("container", string(c.request.owner.Name)), slog.Any("error", err))
	}
}

// former is the change from the configuration that could not be applied back to that of the last good ADD, with what that ADD
// found outside of it.
func (c *change) former() (*change, error) {
	request, err := c.formerRequest()
	if err != nil {
		return nil, err
	}
	back := &change{Executable: c.Executable, request: request, raw: c.recorded.Configuration, folder: c.folder, recorded: c.recorded,
		before: c.before, attachment: *c.before, tools: c.tools, old: c.plan, refused: map[string]string{}, edits: c.recorded.Edits, valid: c.recorded.LastValid}
	if back.valid == nil {
		back.valid = request.document
	}
	loaded, err := back.daemon(c.tools, request.owner, c.folder.Path, c.recorded).Loaded()
	if err != nil {
		return nil, err
	}
	back.plan, err = c.planOf(request, loaded)
	return back, err
}

// formerRequest is what the last good ADD was asked.
func (c *change) formerRequest() (*request, error) {
	return decode(&skel.CmdArgs{ContainerID: string(c.before.ContainerID), IfName: c.before.Interface, StdinData: c.recorded.Configuration})
}

// planOf resolves the request of the last good ADD, and returns the network that this ADD made.
func (c *change) planOf(former *request, loaded map[string][]byte) (*network.Plan, error) {
	former.configuration.Found = c.recorded.Found.Config()
	former.configuration.Resolve(former.ran(loaded, c.recorded.Chosen))
	return former.plan()
}

// oldPlan is the network as the last good ADD made it, with the connections that run; nil if there is none.
func (c *change) oldPlan(loaded map[string][]byte) *network.Plan {
	if c.before == nil {
		return nil
	}
	former, err := c.formerRequest()
	if err != nil {
		return nil
	}
	plan, err := c.planOf(former, loaded)
	if err != nil {
		return nil
	}
	return plan
}

// incompleteMessage is what CHECK says of a container whose reconfigure is neither complete nor taken back.
const incompleteMessage = "a reconfigure is incomplete, the next ADD completes it"

// completion asks for the ADD that completes a reconfigure.
func completion(s *state.State) *spec.Again {
	if s.Incomplete == nil {
		return nil
	}
	return &spec.Again{Reason: "a reconfigure is incomplete"}
}
