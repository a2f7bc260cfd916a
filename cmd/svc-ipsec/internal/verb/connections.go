package verb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
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
	readyWithin  = 10 * time.Second // some thousand conns take half of it
)

// settings writes the files that the daemon reads, but for those of the connections, and reports whether the keys are others
// than before.
func (c *change) settings(d *libreswan.Daemon) (newKeys bool, err error) {
	if err := c.directories(); err != nil {
		return false, err
	}
	settings, all := render.Setup(render.Places{NSS: d.NSS(), Secrets: d.Secrets(), Conns: d.Conns(), Run: d.Run(), Empty: d.Empty()})
	for path, content := range map[string][]byte{d.Settings(): settings, d.Setup(): all} {
		if _, err := c.folder.WriteShared(filepath.Join("etc", filepath.Base(path)), content); err != nil {
			return false, err
		}
	}
	return c.folder.WriteShared("etc/ipsec.secrets", render.Secrets(c.request.configuration.Wanted()))
}

// ready waits until a daemon that systemd is starting again is up.
func (c *change) ready(ctx context.Context, d *libreswan.Daemon, details unit.Details) error {
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
		if err := c.folder.SharedDir(name); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := c.folder.OwnedDir("run"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// specs says how each pair of the wanted connections should be loaded.
func (c *change) specs(wanted []*config.Connection) []libreswan.Spec {
	var specs []libreswan.Spec
	for _, connection := range wanted {
		for _, pair := range connection.Pairs() {
			specs = append(specs, libreswan.Spec{
				Name:        pair.Conn,
				Text:        render.Conn(connection, pair),
				Former:      render.FormerConn(connection, pair),
				Start:       !connection.ResponseOnly,
				Certificate: connection.Certificate.Nickname,
				Matches:     func(loaded libreswan.Conn) string { return mismatch(connection, loaded) },
			})
		}
	}
	return specs
}

// misread are the words for an id that Libreswan takes for another: it will do so the next time.
const misread = "Libreswan takes it for"

// mismatch says what the daemon understood otherwise.
func mismatch(c *config.Connection, loaded libreswan.Conn) string {
	switch {
	case loaded.Unoriented:
		return "no interface has the address " + c.LocalAddress.String()
	case loaded.OurKind != "" && !c.LocalID.Shown(loaded.OurKind, loaded.OurID):
		return fmt.Sprintf("localId %s: "+misread+" %s (%s)", c.LocalID, loaded.OurID, loaded.OurKind)
	case loaded.TheirKind != "" && !c.PeerID.Shown(loaded.TheirKind, loaded.TheirID):
		return fmt.Sprintf("peerId %s: "+misread+" %s (%s)", c.PeerID, loaded.TheirID, loaded.TheirKind)
	}
	return ""
}

// share gives the daemon that is about to be started its place and its user id.
func (c *change) share(ctx context.Context, d *libreswan.Daemon) (err error) {
	if c.recorded.UserID == 0 { // a container of release 0.1.0, whose daemon ran as root
		if err := c.allocateUser(ctx); err != nil {
			return err
		}
	}
	if c.recorded.UserNamespace, err = ownedBy(c.attachment.Namespace, c.recorded.UserID); err != nil {
		return err
	}
	// Written before the daemon exists, so that a CHECK after a killed ADD knows where the daemon runs.
	err = mountview.Ensure(ctx, c.Root, c.Self, func(view string) error {
		c.recorded.View = view
		return c.folder.Save(c.recorded)
	})
	if err != nil {
		return err
	}
	d.Place = place(c.recorded)
	return c.folder.Share(c.recorded.UserID)
}

// allocateUser chooses the user id of the container, the same again if it has one.
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

// adoptUser registers the id that the container's directory has as its group. It has one where only the container's state, and perhaps the
// registry, was lost.
func (c *change) adoptUser(ctx context.Context) error {
	id, err := c.folder.User()
	if err != nil || id == 0 {
		return err
	}
	return c.Users.Adopt(ctx, c.request.owner, id)
}

// ownedBy reports whether the network namespace at path is owned by a user namespace of this user id.
func ownedBy(path string, user uint32) (bool, error) {
	owner, own, err := ownerOf(path)
	return !own && owner == user, err
}

// ownerOf returns the user id whose user namespace owns a network namespace; own reports that it is the one of this program.
func ownerOf(path string) (user uint32, own bool, err error) {
	namespace, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer namespace.Close()
	return netns.UserOf(namespace)
}

// start starts a daemon with all conns on disk, as a restart by systemd finds them, and keeps those that it accepts.
func (c *change) start(ctx context.Context, d *libreswan.Daemon, specs []libreswan.Spec) error {
	if err := c.share(ctx, d); err != nil {
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
	if err := c.database(ctx, d); err != nil {
		return err
	}
	specs, err := c.certify(ctx, d, specs, nil)
	if err != nil {
		return err
	}
	for _, s := range specs {
		if _, err := c.folder.WriteShared(connFile(s.Name), s.Text); err != nil {
			return err
		}
	}
	c.touched = true
	began := time.Now()
	if err := d.Start(ctx, c.recorded.UserNamespace, len(specs)); err != nil {
		return err
	}
	if c.attachment.Guard == network.GuardPolicies { // Libreswan 5 flushes all policies at its start
		if _, err := answers(ctx, d, nil); err != nil {
			return err
		}
		if err := c.guard(ctx, c.plan.Guard); err != nil {
			return err
		}
	}
	answer, missing, err := d.AwaitLoaded(ctx, specs)
	if err != nil {
		return err
	}
	refused, err := d.Refusals(ctx, answer.Conns, specs, began)
	if err != nil {
		return err
	}
	if len(missing)+len(refused) == 0 {
		c.view = viewOf(answer, nil)
	}
	if err := c.keep(specs, refused); err != nil {
		return err
	}
	// Connections that were loaded only when they were tried alone have not been initiated by the start of the daemon.
	if err := c.withdraw(ctx, d, refused); err != nil {
		return err
	}
	return c.initiate(ctx, d, accepted(missing, refused))
}

// answers waits until the daemon answers and has the connections of these files, and returns its answer. A daemon that
// systemd has just restarted loads its connections after it is ready, and would overwrite earlier changes. The deadline is
// extended while the number of missing connections decreases.
func answers(ctx context.Context, d *libreswan.Daemon, files map[string][]byte) (libreswan.Answer, error) {
	missing := len(files)
	for clock := patience.Start(); ; {
		answer, err := d.Ask(ctx)
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

// withdraw removes the keys of refused connections. Libreswan ignores an id that it cannot parse in ipsec.secrets, and the key
// would then match more peers than intended.
func (c *change) withdraw(ctx context.Context, d *libreswan.Daemon, refused map[string]string) error {
	if len(refused) == 0 {
		return nil
	}
	keep := slices.DeleteFunc(c.request.configuration.Wanted(), func(connection *config.Connection) bool {
		return !slices.ContainsFunc(connection.Pairs(), func(p config.Pair) bool { _, no := refused[p.Conn]; return !no })
	})
	if changed, err := c.folder.WriteShared("etc/ipsec.secrets", render.Secrets(keep)); err != nil || !changed {
		return err
	}
	return d.RereadSecrets(ctx)
}

// keep puts the files of the accepted conns in their place and remembers the reasons of the others.
func (c *change) keep(specs []libreswan.Spec, refused map[string]string) error {
	for _, s := range specs {
		name := connFile(s.Name)
		reason, no := refused[s.Name]
		if no {
			c.refused[s.Name] = reason
			if err := c.folder.Delete(name); err != nil {
				return err
			}
		} else if _, err := c.folder.WriteShared(name, s.Text); err != nil {
			return err
		}
	}
	return nil
}

// connFile is the file of a conn, relative to the container's directory.
func connFile(conn string) string { return filepath.Join("conns", conn+".conf") }

func (c *change) initiate(ctx context.Context, d *libreswan.Daemon, specs []libreswan.Spec) error {
	var initiate []string
	for _, s := range specs {
		if s.Start {
			initiate = append(initiate, s.Name)
		}
	}
	return d.Initiate(ctx, initiate...)
}

// stop stops the daemon, which informs its peers, and removes what it leaves. The guard stays: the routes are still there.
func (c *change) stop(ctx context.Context, d *libreswan.Daemon) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	if err := c.namespace.RemoveTunnels(); err != nil {
		return err
	}
	for _, name := range []string{"etc", "conns", "run", "nss"} {
		if err := c.folder.Delete(name); err != nil {
			return err
		}
	}
	return nil
}
