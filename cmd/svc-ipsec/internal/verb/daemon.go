package verb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/mountview"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
	"github.com/svc-supervisor/svc-supervisor/internal/patience"
	"github.com/svc-supervisor/svc-supervisor/pkg/netns"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

const (
	nssTemplate  = ".nss-template"
	answerPause  = 20 * time.Millisecond
	answerWithin = 5 * time.Second
	readyWithin  = 10 * time.Second // loading several thousand conns takes about half of it
)

// settings writes the files that the daemon reads, except those of the conns. newKeys reports whether the file of keys
// changed.
func (c *change) settings(d *libreswan.Daemon) (newKeys bool, err error) {
	if err := c.directories(); err != nil {
		return false, err
	}
	settings, all := render.Setup(render.Paths{
		NSS: d.NSS(), Secrets: d.Secrets(), Conns: d.Conns(), Run: d.Run(), Empty: d.Empty(),
	})
	for path, content := range map[string][]byte{d.Settings(): settings, d.Setup(): all} {
		if _, err := c.dir.WriteShared(filepath.Join("etc", filepath.Base(path)), content); err != nil {
			return false, err
		}
	}
	return c.dir.WriteShared("etc/ipsec.secrets", render.Secrets(c.request.configuration.Wanted()))
}

// awaitRunning waits until a daemon that systemd is restarting has started.
func (c *change) awaitRunning(ctx context.Context, d *libreswan.Daemon, details unit.Details) error {
	for clock := patience.Start(); !details.Running(); {
		if details.Gone() || details.FailedForGood() || clock.Elapsed() > readyWithin || ctx.Err() != nil {
			return fmt.Errorf("%w: its unit is %s", libreswan.ErrNotRunning, details.State())
		}
		time.Sleep(answerPause)
		var err error
		if details, err = c.Bus.Show(ctx, d.Unit()); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) directories() error {
	for _, name := range []string{"etc", "etc/ipsec.d", "conns"} {
		if err := c.dir.SharedDir(name); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := c.dir.OwnedDir("run"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
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

// prepareIsolation sets the user ID, the mount view and the other isolation of a daemon that is about to be started,
// and saves them.
func (c *change) prepareIsolation(ctx context.Context, d *libreswan.Daemon) (err error) {
	if c.recorded.UserID == 0 { // a container of release 0.1.0, whose daemon ran as root
		if err := c.allocateUser(ctx); err != nil {
			return err
		}
	}
	if c.recorded.UserNamespace, err = ownedBy(c.attachment.Namespace, c.recorded.UserID); err != nil {
		return err
	}
	// Saved before the daemon exists, so that a CHECK after a killed ADD knows where the daemon runs.
	err = mountview.Ensure(ctx, c.Root, c.Self, func(view string) error {
		c.recorded.View = view
		return c.dir.Save(c.recorded)
	})
	if err != nil {
		return err
	}
	d.Isolation = isolation(c.recorded)
	return c.dir.Share(c.recorded.UserID)
}

// allocateUser allocates the user ID of the container, or returns the one that it already has.
func (c *change) allocateUser(ctx context.Context) error {
	if err := c.adoptUser(ctx); err != nil {
		return err
	}
	id, err := c.Users.Allocate(ctx, c.request.owner)
	if err != nil {
		return fmt.Errorf("user id of the container: %w", err)
	}
	c.recorded.UserID = id
	return nil
}

// adoptUser registers the user ID that is the group of the container's directory. This matters only if state.json, and
// perhaps the registry, was lost.
func (c *change) adoptUser(ctx context.Context) error {
	id, err := c.dir.User()
	if err != nil || id == 0 {
		return err
	}
	return c.Users.Adopt(ctx, c.request.owner, id)
}

// ownedBy reports whether the network namespace at path is owned by a user namespace of this user ID.
func ownedBy(path string, user uint32) (bool, error) {
	owner, own, err := ownerOf(path)
	return !own && owner == user, err
}

// ownerOf returns the user ID whose user namespace owns the network namespace at path. own reports that this is the
// user namespace of the calling program.
func ownerOf(path string) (user uint32, own bool, err error) {
	namespace, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer namespace.Close()
	return netns.UserOf(namespace)
}

// start starts a daemon that loads all conns from their files, as after a restart by systemd, and records which conns
// it accepted.
func (c *change) start(ctx context.Context, d *libreswan.Daemon, conns []endpoint.Conn) error {
	if err := c.prepareIsolation(ctx, d); err != nil {
		return err
	}
	for _, directory := range []string{d.Conns(), d.Run()} {
		if err := os.RemoveAll(directory); err != nil {
			return fmt.Errorf("remove what another daemon left: %w", err)
		}
	}
	if _, err := c.settings(d); err != nil {
		return err
	}
	if err := c.prepareDatabase(ctx, d); err != nil {
		return err
	}
	conns, err := c.importCertificates(ctx, d, conns, nil)
	if err != nil {
		return err
	}
	for _, conn := range conns {
		if _, err := c.dir.WriteShared(connFile(conn.Name), conn.Text); err != nil {
			return err
		}
	}
	c.connsLoaded = true
	began := time.Now()
	if err := d.Start(ctx, c.recorded.UserNamespace, len(conns)); err != nil {
		return err
	}
	if c.attachment.Guard == network.GuardPolicies { // Libreswan 5 flushes all policies when it starts
		if _, err := awaitConns(ctx, d, nil); err != nil {
			return err
		}
		if err := c.guard(ctx, c.plan.Guard); err != nil {
			return err
		}
	}
	specs := specs(conns)
	answer, missing, err := d.AwaitLoaded(ctx, specs)
	if err != nil {
		return err
	}
	refused, err := d.Refusals(ctx, answer.Conns, specs, began)
	if err != nil {
		return err
	}
	if len(missing)+len(refused) == 0 {
		c.status = statusOf(answer, nil)
	}
	if err := c.writeConns(conns, refused); err != nil {
		return err
	}
	if err := c.removeRefusedKeys(ctx, d, refused); err != nil {
		return err
	}
	// A conn that was loaded only in a second attempt, alone, was not initiated by the start of the daemon.
	late := slices.DeleteFunc(endpoint.Accepted(conns, refused), func(conn endpoint.Conn) bool {
		return !slices.ContainsFunc(missing, func(s libreswan.Spec) bool { return s.Name == conn.Name })
	})
	return c.do(ctx, d, endpoint.Initiate(late))
}

// awaitConns waits until the daemon answers and has the conns of these files, and returns its answer. A daemon that
// systemd has just restarted loads its conns after it reported that it is ready, and this would overwrite earlier
// changes. The deadline is extended as long as the number of missing conns decreases.
func awaitConns(ctx context.Context, d *libreswan.Daemon, files map[string][]byte) (libreswan.Answer, error) {
	missing := len(files)
	for clock := patience.Start(); ; {
		answer, err := d.Query(ctx)
		left := 0
		for conn := range files {
			if _, ok := answer.Conns[conn]; !ok {
				left++
			}
		}
		if left < missing {
			missing, clock = left, patience.Start()
		}
		if err == nil && left == 0 || clock.Elapsed() > answerWithin || ctx.Err() != nil {
			return answer, err
		}
		time.Sleep(answerPause)
	}
}

// removeRefusedKeys removes the keys of refused connections from ipsec.secrets. Libreswan ignores an ID that it cannot
// parse in that file, so the key would match more peers than intended.
func (c *change) removeRefusedKeys(ctx context.Context, d *libreswan.Daemon, refused map[string]string) error {
	if len(refused) == 0 {
		return nil
	}
	keep := endpoint.WithAcceptedConn(c.request.configuration.Wanted(), refused)
	if changed, err := c.dir.WriteShared("etc/ipsec.secrets", render.Secrets(keep)); err != nil || !changed {
		return err
	}
	return d.RereadSecrets(ctx)
}

// writeConns writes the files of the accepted conns, deletes those of the refused ones, and records the reasons in
// c.refused.
func (c *change) writeConns(conns []endpoint.Conn, refused map[string]string) error {
	for _, conn := range conns {
		name := connFile(conn.Name)
		reason, isRefused := refused[conn.Name]
		if isRefused {
			c.refused[conn.Name] = reason
			if err := c.dir.Delete(name); err != nil {
				return err
			}
		} else if _, err := c.dir.WriteShared(name, conn.Text); err != nil {
			return err
		}
	}
	return nil
}

// connFile returns the path of a conn's file, relative to the container's directory.
func connFile(conn string) string { return filepath.Join("conns", conn+".conf") }

// stop stops the daemon, which sends DELETE to its peers, and removes its files and what it left in the kernel. The
// guard stays, because the routes still exist.
func (c *change) stop(ctx context.Context, d *libreswan.Daemon) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	if err := c.namespace.RemoveTunnels(); err != nil {
		return err
	}
	for _, name := range []string{"etc", "conns", "run", "nss"} {
		if err := c.dir.Delete(name); err != nil {
			return err
		}
	}
	return nil
}
