package verb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/container"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/link"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/pluto"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// change is one ADD at work: on a new container, or on one that runs.
type change struct {
	*Executable
	request    *request
	raw        []byte
	folder     *container.Folder
	before     *container.Attachment // nil: new
	attachment container.Attachment
	namespace  *link.Namespace
	tools      pluto.Tools
	plan       *link.Plan
	old        *link.Plan        // the network as the last good ADD made it; nil if there is none
	refused    map[string]string // conns that the daemon refused, with its reason
	touched    bool              // conns were loaded, and initiated
	unread     bool              // the key database could not be read, or did not take a certificate
	left       bool              // the daemon is of another Libreswan than the tools, and has what is wanted
	view       *view             // of the daemon, if nothing was changed since it was asked
	done       bool              // all is made and written down

	last        config.Found // what the last good ADD found
	keys        *lookup.KeyFiles
	credentials map[string]*credential.Credential
}

// Add makes a container, or brings one that runs to a new configuration in place.
func (e *Executable) Add(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbBudget)
	defer cancel()
	r, err := decode(args)
	if err != nil {
		return err
	}
	tools, missing := pluto.FindTools()
	if len(missing) > 0 {
		return fail(spec.CodeNotAvailable, "add %s: missing on this host: %s", r.owner.Name, strings.Join(missing, ", "))
	}
	folder, err := container.Open(ctx, e.Root, r.owner.Name, patience)
	if err != nil {
		return err
	}
	defer folder.Close()
	c := &change{Executable: e, request: r, raw: args.StdinData, folder: folder, tools: tools, refused: map[string]string{}}
	if c.before, err = folder.Attachment(); err != nil {
		return err
	}
	if err := c.fits(args.Netns); err != nil {
		if c.before == nil {
			folder.RemoveIfEmpty()
		}
		return err
	}
	err = c.run(ctx)
	if err == nil {
		err = c.print(ctx)
	}
	if err != nil {
		err = fmt.Errorf("add %s: %w", r.owner.Name, err)
		if c.before == nil {
			if left := c.undo(); left != nil {
				err = fmt.Errorf("%w; %w", err, left)
			}
			return err
		}
		if !c.done {
			c.restore()
		}
		if errors.Is(err, pluto.ErrNotRunning) { // it has just ended: systemd starts it again, or CHECK tells
			return fail(spec.CodeAgain, "%w", err)
		}
	}
	return err
}

// fits says whether this ADD can be done at all, before anything is touched.
func (c *change) fits(namespace string) error {
	owner := c.request.owner
	inode, err := container.Inode(namespace)
	if err != nil {
		return fail(spec.CodeEnvironment, "add %s: CNI_NETNS: %w", owner.Name, err)
	}
	own, err := link.Open(namespace)
	if err != nil {
		return fmt.Errorf("add %s: %w", owner.Name, err)
	}
	own.Close()
	if before := c.before; before != nil {
		switch {
		case before.Network != owner.Network || before.ContainerID != owner.ContainerID || before.Interface != c.request.iface:
			return fail(spec.CodeEnvironment, "add %s: the name is held by container %s of network %s (CNI_IFNAME %s)", owner.Name,
				spec.Quote(string(before.ContainerID)), spec.Quote(before.Network), before.Interface)
		case before.Inode != inode:
			return fail(spec.CodeNotInPlace, "add %s: CNI_NETNS is another namespace than the container's: cannot be done in place", owner.Name)
		case before.Chained != c.request.chained:
			return fail(spec.CodeNotInPlace, "add %s: the container was made with and not without prevResult, or the other way round: cannot be done in place", owner.Name)
		}
	} else if !c.request.chained {
		if _, err := link.Held(owner); err != nil {
			return fmt.Errorf("add %s: %w", owner.Name, err)
		}
	}
	if bridge := c.request.bridge(); bridge != "" {
		if err := c.request.port.Check(); err != nil {
			return within("port", err)
		}
		if _, err := link.FindBridge(bridge); err != nil {
			return fmt.Errorf("add %s: %w", owner.Name, err)
		}
	}
	if c.before != nil && container.Lasts(c.before.Namespace) {
		namespace = c.before.Namespace
	}
	c.attachment = container.Attachment{Network: owner.Network, ContainerID: owner.ContainerID, Interface: c.request.iface,
		Namespace: namespace, Inode: inode, Chained: c.request.chained, Bridge: c.request.bridge()}
	return nil
}

func (c *change) run(ctx context.Context) error {
	daemon := c.daemon(c.tools, c.request.owner, c.folder.Path)
	loaded, err := daemon.Loaded()
	if err != nil {
		return err
	}
	if err := c.look(ctx); err != nil {
		return err
	}
	c.request.configuration.Loaded = networks(loaded)
	c.request.configuration.Resolve(standing(loaded, ranLast(c.folder)))
	if err := c.changeable(ctx, daemon, loaded); err != nil {
		return err
	}
	c.old = c.oldPlan(loaded)
	if c.plan, err = c.request.plan(); err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	if c.namespace, err = link.Open(c.attachment.Namespace); err != nil {
		return err
	}
	defer c.namespace.Close()
	if err := c.network(ctx); err != nil {
		return err
	}
	if err := c.connections(ctx, daemon); err != nil {
		return err
	}
	return c.finish()
}

// networks tells which subnets the conns of the daemon join.
func networks(loaded map[string][]byte) map[string]config.Networks {
	found := map[string]config.Networks{}
	for conn, text := range loaded {
		found[conn] = render.Networks(text)
	}
	return found
}

// begin writes whose the container is, before anything of it exists: DEL finds all of it by that.
func (c *change) begin() error {
	if c.before != nil {
		if err := c.folder.Tidy(); err != nil {
			return err
		}
	} else if err := c.folder.SetAttachment(c.attachment); err != nil {
		return err
	}
	lasting, err := c.folder.Lasting(c.attachment.Namespace)
	if err != nil {
		return err
	}
	c.attachment.Namespace = lasting
	if c.before != nil { // a first ADD may have been cut short before it had a path that lasts
		c.before.Namespace = lasting
		return c.folder.SetAttachment(*c.before)
	}
	if err := c.folder.SetAttachment(c.attachment); err != nil {
		return err
	}
	return c.folder.SetConf(c.raw)
}

// finish keeps what now is: CHECK compares with it.
func (c *change) finish() error {
	if err := c.setRefusals(); err != nil {
		return err
	}
	if err := c.setRan(); err != nil {
		return err
	}
	if err := c.folder.SetAttachment(c.attachment); err != nil {
		return err
	}
	if err := c.setFound(); err != nil {
		return err
	}
	if err := c.folder.SetConf(c.raw); err != nil {
		return err
	}
	c.done = true
	return nil
}

// undo takes back a first ADD.
func (c *change) undo() error {
	ctx, cancel := c.aside()
	defer cancel()
	removal := removal{Executable: c.Executable, owner: c.request.owner, folder: c.folder, attachment: &c.attachment}
	if err := removal.run(ctx); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}

// restore brings the network of a container that runs back to what it was, as far as that is possible; its connections
// were changed one by one and stay as far as they got.
func (c *change) restore() {
	if c.plan == nil {
		return
	}
	ctx, cancel := c.aside()
	defer cancel()
	if err := c.restoreNetwork(ctx); err != nil {
		c.Log.Warn("network not restored", slog.String("container", string(c.request.owner.Name)), slog.Any("error", err))
	}
}
