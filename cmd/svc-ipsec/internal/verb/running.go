package verb

import (
	"bytes"
	"context"
	"errors"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
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
	edited := !bytes.Equal(c.recorded.Configuration, c.raw)
	c.refused, c.keepsOutdated = endpoint.FilesMatch(endpoint.Conns(wanted), files, c.recorded.Refused, edited)
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
	wanted []endpoint.Conn,
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
	usable, err := c.importCertificates(ctx, d, wanted, files)
	if err != nil {
		return err
	}
	c.status = statusOf(answer, build)
	status := c.status.plain()
	c.changes = endpoint.Compare(usable, files, status.Conns, endpoint.ConnectedPeers(wanted, status))
	return nil
}

// loadRunning loads the new conns into a running daemon.
func (c *change) loadRunning(ctx context.Context, d *libreswan.Daemon) error {
	newKeys, err := c.settings(d)
	if err != nil {
		return err
	}
	before := c.status.plain()
	if c.changes.Changes() {
		c.status = nil
	}
	if err := c.do(ctx, d, c.changes.LoadRunning(newKeys)); err != nil || !c.changes.Changes() {
		return err
	}
	answer, err := d.Query(ctx)
	if err != nil {
		return err
	}
	return c.do(ctx, d, c.changes.Revive(before, statusOf(answer, nil).plain()))
}

// loadConns loads conns into a running daemon, records which of them it refused, and initiates the others.
func (c *change) loadConns(ctx context.Context, d *libreswan.Daemon, conns []endpoint.Conn) error {
	refused, err := d.Load(ctx, specs(conns))
	if err != nil {
		return err
	}
	if err := c.writeConns(conns, refused); err != nil {
		return err
	}
	if err := c.removeRefusedKeys(ctx, d, refused); err != nil {
		return err
	}
	accepted := endpoint.Accepted(conns, refused)
	c.connsLoaded = len(accepted) > 0
	return c.do(ctx, d, endpoint.Initiate(accepted))
}
