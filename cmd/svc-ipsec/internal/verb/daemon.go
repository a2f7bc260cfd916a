package verb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

const (
	nssTemplate  = ".nss-template"
	answerPause  = 20 * time.Millisecond
	answerWithin = 5 * time.Second
	readyWithin  = 10 * time.Second // loading several thousand conns takes about half of it
)

// daemonChange makes the daemon of a container have the wanted connections. Package endpoint decides what has to
// change.
type daemonChange struct {
	daemon   *libreswan.Daemon
	wanted   []*config.Connection
	files    daemonFiles
	database *keyDatabase
	isolator *isolator
	// namespace is the container's network namespace, and path a path of it.
	namespace *network.Namespace
	path      string
	plan      endpoint.Plan
	result    daemonResult
}

// daemonResult is what a daemonChange has done.
type daemonResult struct {
	refused     map[string]string // conns that the daemon refused, with the reasons
	connsLoaded bool              // conns were loaded and initiated
	// keepsOutdated means that the daemon is outdated (checkOutdated) and already has every wanted conn.
	keepsOutdated bool
	status        *daemonStatus // status of the daemon, nil if it was changed after it was read
}

// checkOutdated refuses an edit for a daemon that runs another Libreswan than the installed one, before anything is
// changed. Without this check the edit would fail, be undone and be retried until the daemon is replaced. If the daemon
// already has every wanted conn, there is no edit and ADD leaves the daemon unchanged. files has the texts of the conns
// that the daemon has, and refused those that it refused at the last successful ADD. edited means that the
// configuration is not the one of that ADD.
func (c *daemonChange) checkOutdated(ctx context.Context, files map[string][]byte, refused map[string]string,
	edited bool,
) error {
	if len(c.wanted) == 0 {
		return nil
	}
	build, err := c.daemon.Outdated(ctx)
	if errors.Is(err, libreswan.ErrNotRunning) {
		return nil // systemd is about to start the installed version
	}
	if err != nil || build.Compatible() {
		return err
	}
	refused, same := endpoint.FilesMatch(endpoint.Conns(c.wanted), files, refused, edited)
	if !same {
		return outdatedError(c.daemon, build)
	}
	c.result.refused, c.result.keepsOutdated = refused, true
	return nil
}

func outdatedError(d *libreswan.Daemon, build *libreswan.Build) error {
	return cni.Fail(cni.CodeOutdated, "%s; the change is made then", outdated(build, d.Owner.Name))
}

// compare plans what has to change in the daemon. It changes nothing but the key database, into which it imports
// certificates if the daemon runs.
func (c *daemonChange) compare(ctx context.Context, isNew bool) error {
	if c.result.keepsOutdated {
		return nil
	}
	d := c.daemon
	details, err := d.Bus.Show(ctx, d.Unit())
	if err != nil {
		return err
	}
	conns := endpoint.Conns(c.wanted)
	_, statErr := os.Lstat(d.Files().NSS())
	observed := endpoint.Unit{
		New: isNew, Exists: !details.Gone(), Failed: details.FailedForGood(), Database: statErr == nil,
	}
	// The container is new, but the unit exists. It belongs to this container if only its directory was lost, or else
	// to another one.
	if len(conns) > 0 && observed.New && observed.Exists &&
		(details.Owner.Network != d.Owner.Network || details.Owner.Name != d.Owner.Name) {
		return cni.Fail(cni.CodeNameTaken, "unit %s exists and is not this container's", d.Unit())
	}
	var running bool
	if c.plan, running = endpoint.PlanUnit(observed, conns); running {
		return c.compareRunning(ctx, details, conns)
	}
	return nil
}

// compareRunning plans what has to change in a running daemon.
func (c *daemonChange) compareRunning(ctx context.Context, details unit.Details, conns []endpoint.Conn) error {
	if err := awaitRunning(ctx, c.daemon, details); err != nil {
		return err
	}
	files, err := c.daemon.Files().Loaded()
	if err != nil {
		return err
	}
	build, err := c.daemon.Outdated(ctx)
	if err != nil {
		return err
	}
	if !build.Compatible() { // the package was upgraded after checkOutdated
		return outdatedError(c.daemon, build)
	}
	answer, err := awaitConns(ctx, c.daemon, files)
	if err != nil {
		return err
	}
	usable, err := c.importCertificates(ctx, conns, files)
	if err != nil {
		return err
	}
	c.result.status = statusOf(answer, build)
	status := c.result.status.plain()
	c.plan = endpoint.Compare(usable, files, status.Conns, endpoint.ConnectedPeers(conns, status))
	return nil
}

// importCertificates imports the certificates of conns, and returns the conns without those that lack theirs.
func (c *daemonChange) importCertificates(ctx context.Context, conns []endpoint.Conn,
	files map[string][]byte,
) ([]endpoint.Conn, error) {
	refused, err := c.database.load(ctx, conns, files)
	if err != nil {
		return nil, err
	}
	maps.Copy(c.result.refused, refused)
	return endpoint.Accepted(conns, refused), nil
}

// load loads the new conns into the daemon, or starts a daemon. restoreGuard is called when a daemon was started,
// before its conns are checked.
func (c *daemonChange) load(ctx context.Context, restoreGuard func(context.Context) error) error {
	switch {
	case c.result.keepsOutdated || len(c.wanted) == 0:
		return nil
	case c.plan.Start:
		return c.start(ctx, restoreGuard)
	}
	if err := c.loadRunning(ctx); err != nil {
		return err
	}
	c.database.prune(ctx)
	return nil
}

// loadRunning loads the new conns into a running daemon, and initiates them and the conns that lost their tunnel.
func (c *daemonChange) loadRunning(ctx context.Context) error {
	newKeys, err := c.files.writeSettings(c.daemon.Files(), c.wanted)
	if err != nil {
		return err
	}
	before := c.result.status.plain()
	if c.plan.Changes() {
		c.result.status = nil
	}
	if err := c.do(ctx, c.plan.Prepare(newKeys)); err != nil || !c.plan.Changes() {
		return err
	}
	var answer libreswan.Answer
	var loaded []endpoint.Conn
	if len(c.plan.Load) > 0 {
		answer, loaded, err = c.loadConns(ctx, c.plan.Load)
	} else {
		answer, err = c.daemon.Control().Query(ctx)
	}
	if err != nil {
		return err
	}
	// The answer is older than any negotiation of the new conns, which would look like those of lost tunnels.
	if err := c.do(ctx, c.plan.Revive(before, statusOf(answer, nil).plain())); err != nil {
		return err
	}
	return c.do(ctx, endpoint.Initiate(loaded))
}

// do executes actions in their order.
func (c *daemonChange) do(ctx context.Context, actions []endpoint.Action) error {
	control := c.daemon.Control()
	for _, action := range actions {
		var err error
		switch action.Op {
		case endpoint.OpStop:
			err = c.stop(ctx)
		case endpoint.OpRemoveFiles:
			err = c.files.removeConns(action.Conns)
		case endpoint.OpDelete:
			err = control.Delete(ctx, action.Conns...)
		case endpoint.OpRereadSecrets:
			err = control.RereadSecrets(ctx)
		case endpoint.OpListen:
			err = control.Listen(ctx)
		case endpoint.OpTerminate:
			err = control.Terminate(ctx, action.Conns...)
		case endpoint.OpInitiate:
			err = control.Initiate(ctx, action.Conns...)
		default:
			err = fmt.Errorf("unknown action %s", action)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stop stops the daemon, which sends DELETE to its peers, and removes its files and what it left in the kernel. The
// guard stays, because the routes still exist.
func (c *daemonChange) stop(ctx context.Context) error {
	if err := c.daemon.Stop(ctx); err != nil {
		return err
	}
	if err := c.namespace.XFRM().RemoveTunnels(); err != nil {
		return err
	}
	return c.files.removeAll()
}

// loadConns loads conns into a running daemon, and records which of them it refused. It returns an answer of the daemon
// from after the load, and the conns that it accepted.
func (c *daemonChange) loadConns(
	ctx context.Context, conns []endpoint.Conn,
) (answer libreswan.Answer, accepted []endpoint.Conn, err error) {
	refused, answer, err := c.daemon.Loader().Load(ctx, specs(conns))
	if err != nil {
		return answer, nil, err
	}
	if err := c.keep(ctx, conns, refused); err != nil {
		return answer, nil, err
	}
	accepted = endpoint.Accepted(conns, refused)
	c.result.connsLoaded = len(accepted) > 0
	return answer, accepted, nil
}

// keep records which conns the daemon refused, and makes the files those of the conns that it has. It removes the keys
// of refused connections: Libreswan ignores an ID that it cannot parse in the file of keys, so the key would match more
// peers than intended.
func (c *daemonChange) keep(ctx context.Context, conns []endpoint.Conn, refused map[string]string) error {
	maps.Copy(c.result.refused, refused)
	if err := c.files.writeConns(conns, refused); err != nil || len(refused) == 0 {
		return err
	}
	changed, err := c.files.writeKeys(endpoint.WithAcceptedConn(c.wanted, refused))
	if err != nil || !changed {
		return err
	}
	return c.daemon.Control().RereadSecrets(ctx)
}

// start starts a daemon that loads all conns from their files, as after a restart by systemd, and records which conns
// it accepted.
func (c *daemonChange) start(ctx context.Context, restoreGuard func(context.Context) error) error {
	d := c.daemon
	conns, err := c.prepareStart(ctx)
	if err != nil {
		return err
	}
	c.result.connsLoaded = true
	began := time.Now()
	if err := d.Start(ctx, c.isolator.record.state.UserNamespace, len(conns)); err != nil {
		return err
	}
	if err := restoreGuard(ctx); err != nil {
		return err
	}
	specs := specs(conns)
	answer, missing, err := d.Loader().AwaitLoaded(ctx, specs)
	if err != nil {
		return err
	}
	refused, err := d.Loader().Refusals(ctx, answer.Conns, specs, began)
	if err != nil {
		return err
	}
	if len(missing)+len(refused) == 0 {
		c.result.status = statusOf(answer, nil)
	}
	if err := c.keep(ctx, conns, refused); err != nil {
		return err
	}
	// A conn that was loaded only in a second attempt, alone, was not initiated by the start of the daemon.
	late := slices.DeleteFunc(endpoint.Accepted(conns, refused), func(conn endpoint.Conn) bool {
		return !slices.ContainsFunc(missing, func(s libreswan.Spec) bool { return s.Name == conn.Name })
	})
	return c.do(ctx, endpoint.Initiate(late))
}

// prepareStart makes the isolation, the key database and the files of a daemon that is about to be started, and returns
// the conns that it will load.
func (c *daemonChange) prepareStart(ctx context.Context) (conns []endpoint.Conn, err error) {
	d := c.daemon
	if d.Isolation, err = c.isolator.prepare(ctx, c.path); err != nil {
		return nil, err
	}
	for _, directory := range []string{d.Files().Conns(), d.Files().Run()} {
		if err := os.RemoveAll(directory); err != nil {
			return nil, fmt.Errorf("remove what another daemon left: %w", err)
		}
	}
	if _, err := c.files.writeSettings(d.Files(), c.wanted); err != nil {
		return nil, err
	}
	if err := c.database.create(ctx); err != nil {
		return nil, err
	}
	if conns, err = c.importCertificates(ctx, c.plan.Load, nil); err != nil {
		return nil, err
	}
	return conns, c.files.writeConns(conns, nil)
}

// specs returns conns in the form in which package libreswan loads them.
func specs(conns []endpoint.Conn) []libreswan.Spec {
	var specs []libreswan.Spec
	for _, c := range conns {
		specs = append(specs, libreswan.Spec{
			Name: c.Name, Text: c.Text,
			Matches: func(loaded libreswan.Conn) string { return mismatch(c.Connection, loaded) },
		})
	}
	return specs
}

// misreadID marks the reasons of conns whose ID Libreswan parses as another one. Loading such a conn again gives the
// same result.
const misreadID = "Libreswan takes it for"

// mismatch returns how a loaded conn differs from the wanted connection, or "" if it does not.
func mismatch(c *config.Connection, loaded libreswan.Conn) string {
	switch {
	case loaded.Unoriented:
		return "no interface has the address " + c.LocalAddress.String()
	case loaded.OurKind != "" && !c.LocalID.Shown(loaded.OurKind, loaded.OurID):
		return fmt.Sprintf("localId %s: "+misreadID+" %s (%s)", c.LocalID, loaded.OurID, loaded.OurKind)
	case loaded.TheirKind != "" && !c.PeerID.Shown(loaded.TheirKind, loaded.TheirID):
		return fmt.Sprintf("peerId %s: "+misreadID+" %s (%s)", c.PeerID, loaded.TheirID, loaded.TheirKind)
	}
	return ""
}

// awaitRunning waits until a daemon that systemd is restarting has started. details is the state of its unit.
func awaitRunning(ctx context.Context, d *libreswan.Daemon, details unit.Details) error {
	for clock := busyclock.Start(); !details.Running(); {
		if details.Gone() || details.FailedForGood() || clock.Elapsed() > readyWithin || ctx.Err() != nil {
			return fmt.Errorf("%w: its unit is %s", libreswan.ErrNotRunning, details.State())
		}
		time.Sleep(answerPause)
		var err error
		if details, err = d.Bus.Show(ctx, d.Unit()); err != nil {
			return err
		}
	}
	return nil
}

// awaitConns waits until the daemon answers and has the conns of these files, and returns its answer. A daemon that
// systemd has just restarted loads its conns after it reported that it is ready, and this would overwrite earlier
// changes. The deadline is extended as long as the number of missing conns decreases.
func awaitConns(ctx context.Context, d *libreswan.Daemon, files map[string][]byte) (libreswan.Answer, error) {
	missing := len(files)
	for clock := busyclock.Start(); ; {
		answer, err := d.Control().Query(ctx)
		left := 0
		for conn := range files {
			if _, ok := answer.Conns[conn]; !ok {
				left++
			}
		}
		if left < missing {
			missing, clock = left, busyclock.Start()
		}
		if err == nil && left == 0 || clock.Elapsed() > answerWithin || ctx.Err() != nil {
			return answer, err
		}
		time.Sleep(answerPause)
	}
}
