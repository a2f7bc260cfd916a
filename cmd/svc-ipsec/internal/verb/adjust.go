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

// changeable refuses an edit of a daemon that is of another Libreswan than the installed tools, before anything is touched
// for it: it would be undone, and tried again, until the daemon is replaced. One that has what is wanted is left as it is.
func (c *change) changeable(ctx context.Context, d *libreswan.Daemon, files map[string][]byte) error {
	wanted := c.request.configuration.Wanted()
	if c.before == nil || len(wanted) == 0 {
		return nil
	}
	build, err := d.Outdated(ctx)
	if errors.Is(err, libreswan.ErrNotRunning) {
		return nil // systemd is about to start the installed one
	}
	if err != nil || build.Compatible() {
		return err
	}
	c.refused, c.left = c.sameFiles(files, c.specs(wanted))
	if !c.left {
		return waits(d, build)
	}
	return nil
}

func waits(d *libreswan.Daemon, build *libreswan.Build) error {
	return fail(codeOutdated, "%s; the change is made then", outdated(build, d.Owner.Name))
}

// compareRunning finds out what has to change in a daemon that runs.
func (c *change) compareRunning(ctx context.Context, d *libreswan.Daemon, details unit.Details, specs []libreswan.Spec) error {
	if err := c.ready(ctx, d, details); err != nil {
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
	if !build.Compatible() { // it was upgraded a moment ago
		return waits(d, build)
	}
	answer, err := answers(ctx, d, files)
	if err != nil {
		return err
	}
	if specs, err = c.certify(ctx, d, specs, files); err != nil {
		return err
	}
	c.view = viewOf(answer, build)
	c.changes = compareConns(specs, files, answer.Conns, c.connected(c.view.up))
	return nil
}

// loadRunning gives a daemon that runs its new connections.
func (c *change) loadRunning(ctx context.Context, d *libreswan.Daemon) error {
	newKeys, err := c.settings(d)
	if err != nil {
		return err
	}
	// With each conn that goes, too: an ADD before this one may have failed between the file of the keys and this.
	if newKeys || c.changes.any() {
		if err := d.RereadSecrets(ctx); err != nil {
			return err
		}
	}
	if !c.changes.any() {
		return nil
	}
	load, up := c.changes.load, c.view.up
	c.view = nil
	if len(load) > 0 {
		// The addresses may be others now, and a conn whose address the daemon does not know never comes up.
		if err := d.Listen(ctx); err != nil {
			return err
		}
	}
	refused, err := d.Load(ctx, load)
	if err != nil {
		return err
	}
	if err := c.keep(load, refused); err != nil {
		return err
	}
	if err := c.withdraw(ctx, d, refused); err != nil {
		return err
	}
	load = accepted(load, refused)
	c.touched = len(load) > 0
	if err := c.initiate(ctx, d, load); err != nil {
		return err
	}
	return c.reviveSiblings(ctx, d, c.changes.same, up)
}

// connected returns the conns of all connections to peers that a tunnel is up to.
func (c *change) connected(up map[string]libreswan.Traffic) map[string]bool {
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

// sameFiles says whether the daemon has just what is wanted, as far as files tell: each conn, or, if nothing was edited, the
// word that it was refused. With the conns it has their keys.
func (c *change) sameFiles(files map[string][]byte, specs []libreswan.Spec) (refused map[string]string, same bool) {
	refused = map[string]string{}
	unedited := bytes.Equal(c.recorded.Configuration, c.raw)
	said := c.recorded.Refused
	for _, s := range specs {
		reason, no := said[s.Name]
		if bytes.Equal(files[s.Name], s.Text) || bytes.Equal(files[s.Name], s.Former) {
			continue
		}
		if !no || !unedited {
			return nil, false
		}
		refused[s.Name] = reason
	}
	return refused, len(files)+len(refused) == len(specs)
}

// accepted lists those that were not refused.
func accepted(specs []libreswan.Spec, refused map[string]string) []libreswan.Spec {
	return slices.DeleteFunc(slices.Clone(specs), func(s libreswan.Spec) bool { _, no := refused[s.Name]; return no })
}

// reviveSiblings initiates again what went down with a conn that was changed: the conns of one peer share one IKE SA, and
// it goes with the conn that made it. What the daemon has left of their tunnels goes first: the peer has nothing of them. A
// conn that is the peer's to begin is not begun here: the peer was told, and two that begin at once cross.
func (c *change) reviveSiblings(ctx context.Context, d *libreswan.Daemon, same []libreswan.Spec, before map[string]libreswan.Traffic) error {
	answer, err := d.Ask(ctx)
	if err != nil {
		return err
	}
	after := viewOf(answer, nil)
	if err := d.Terminate(ctx, after.orphans...); err != nil {
		return err
	}
	return c.initiate(ctx, d, slices.DeleteFunc(same, func(s libreswan.Spec) bool {
		_, was := before[s.Name]
		_, is := after.up[s.Name]
		return !was || is
	}))
}
