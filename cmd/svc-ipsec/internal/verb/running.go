package verb

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// checkOutdated refuses an edit for a daemon that runs another Libreswan than the installed one, before anything is
// changed. Without this check the edit would fail, be undone and be retried until the daemon is replaced. If the daemon
// already has every wanted conn, there is no edit and ADD leaves the daemon unchanged.
func (c *change) checkOutdated(ctx context.Context, d *libreswan.Daemon, files map[string][]byte) error {
	wanted := c.request.configuration.Wanted()
	if c.before == nil || len(wanted) == 0 {
		return nil
	}
	build, err := d.Outdated(ctx)
	if errors.Is(err, libreswan.ErrNotRunning) {
		return nil // systemd is about to start the installed version
	}
	if err != nil || build.Compatible() {
		return err
	}
	c.refused, c.keepsOutdated = c.filesMatch(files, c.specs(wanted))
	if !c.keepsOutdated {
		return outdatedError(d, build)
	}
	return nil
}

func outdatedError(d *libreswan.Daemon, build *libreswan.Build) error {
	return fail(codeOutdated, "%s; the change is made then", outdated(build, d.Owner.Name))
}

// compareRunning sets c.changes to what has to change in a running daemon.
func (c *change) compareRunning(ctx context.Context, d *libreswan.Daemon, details unit.Details,
	specs []libreswan.Spec,
) error {
	if err := c.awaitRunning(ctx, d, details); err != nil {
		return err
	}
	files, err := d.Loaded()
	if err != nil {
		return err
	}
	build, err := d.Outdated(ctx)
	if err != nil {
		return err
	}
	if !build.Compatible() { // the package was upgraded after checkOutdated
		return outdatedError(d, build)
	}
	answer, err := awaitConns(ctx, d, files)
	if err != nil {
		return err
	}
	if specs, err = c.importCertificates(ctx, d, specs, files); err != nil {
		return err
	}
	c.status = statusOf(answer, build)
	c.changes = compareConns(specs, files, answer.Conns, c.connsOfConnectedPeers(c.status.up))
	return nil
}

// loadRunning loads the new conns into a running daemon.
func (c *change) loadRunning(ctx context.Context, d *libreswan.Daemon) error {
	newKeys, err := c.settings(d)
	if err != nil {
		return err
	}
	// The keys are also reread if conns were only removed: an earlier ADD may have written the file of keys and failed
	// before the daemon read it.
	if newKeys || c.changes.any() {
		if err := d.RereadSecrets(ctx); err != nil {
			return err
		}
	}
	if !c.changes.any() {
		return nil
	}
	load, up := c.changes.load, c.status.up
	c.status = nil
	if len(load) > 0 {
		// The interface addresses may have changed, and pluto never orients a conn whose local address it does not know.
		if err := d.Listen(ctx); err != nil {
			return err
		}
	}
	refused, err := d.Load(ctx, load)
	if err != nil {
		return err
	}
	if err := c.writeConns(load, refused); err != nil {
		return err
	}
	if err := c.removeRefusedKeys(ctx, d, refused); err != nil {
		return err
	}
	load = accepted(load, refused)
	c.connsLoaded = len(load) > 0
	if err := c.initiate(ctx, d, load); err != nil {
		return err
	}
	return c.reviveSiblings(ctx, d, c.changes.same, up)
}

// connsOfConnectedPeers returns, for each wanted conn, whether any tunnel to its peer is up.
func (c *change) connsOfConnectedPeers(up map[string]libreswan.Traffic) map[string]bool {
	peers := map[netip.Addr]bool{}
	wanted := c.request.configuration.Wanted()
	for _, connection := range wanted {
		for _, pair := range connection.Pairs() {
			if _, ok := up[pair.Conn]; ok {
				peers[connection.PeerAddress] = true
			}
		}
	}
	conns := map[string]bool{}
	for _, connection := range wanted {
		for _, pair := range connection.Pairs() {
			conns[pair.Conn] = peers[connection.PeerAddress]
		}
	}
	return conns
}

// filesMatch reports whether the daemon already has all wanted conns, judged by the files alone. A conn matches if its
// file has the wanted text, or, when the configuration was not edited, if the daemon is recorded to have refused it.
// The text of a conn depends on its key, so matching conns have the wanted keys too. The result lists the refused conns
// with their reasons.
func (c *change) filesMatch(files map[string][]byte, specs []libreswan.Spec) (refused map[string]string, same bool) {
	refused = map[string]string{}
	unedited := bytes.Equal(c.recorded.Configuration, c.raw)
	recorded := c.recorded.Refused
	for _, s := range specs {
		reason, isRefused := recorded[s.Name]
		if bytes.Equal(files[s.Name], s.Text) || bytes.Equal(files[s.Name], s.Former) {
			continue
		}
		if !isRefused || !unedited {
			return nil, false
		}
		refused[s.Name] = reason
	}
	return refused, len(files)+len(refused) == len(specs)
}

// accepted returns the specs that are not in refused.
func accepted(specs []libreswan.Spec, refused map[string]string) []libreswan.Spec {
	return slices.DeleteFunc(slices.Clone(specs), func(s libreswan.Spec) bool {
		_, isRefused := refused[s.Name]
		return isRefused
	})
}

// reviveSiblings initiates the unchanged conns that lost their tunnel because another conn was changed: the conns to
// one peer share an IKE SA, which is deleted with the conn that established it. The peer has deleted its Child SAs
// already, so the orphaned Child SAs are terminated first. Response-only conns are not initiated. Their peer received
// the DELETE and initiates them; if both ends initiated at the same time, the exchanges would collide.
func (c *change) reviveSiblings(ctx context.Context, d *libreswan.Daemon, same []libreswan.Spec,
	before map[string]libreswan.Traffic,
) error {
	answer, err := d.Query(ctx)
	if err != nil {
		return err
	}
	after := statusOf(answer, nil)
	if err := d.Terminate(ctx, after.orphans...); err != nil {
		return err
	}
	return c.initiate(ctx, d, slices.DeleteFunc(same, func(s libreswan.Spec) bool {
		_, was := before[s.Name]
		_, is := after.up[s.Name]
		return !was || is
	}))
}
