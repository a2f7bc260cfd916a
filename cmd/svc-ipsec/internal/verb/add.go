package verb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/render"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// change is one ADD at work: on a new container, or on one that runs.
type change struct {
	*Executable
	request     *request
	raw         json.RawMessage // as state.Compact returns it
	folder      *state.Directory
	recorded    *state.State      // what state.json holds, and what the next Save adds to it
	before      *state.Attachment // of recorded; nil: the container is new
	attachment  state.Attachment
	guardRules  string // the guard that this ADD has set, or found in place
	guardDigest string
	namespace   *network.Namespace
	tools       libreswan.Tools
	plan        *network.Plan
	old         *network.Plan     // the network as the last good ADD made it; nil if there is none
	refused     map[string]string // conns that the daemon refused, with its reason
	touched     bool              // conns were loaded, and initiated
	unread      bool              // the key database could not be read, or did not take a certificate
	left        bool              // the daemon is of another Libreswan than the tools, and has what is wanted
	view        *view             // of the daemon, if nothing was changed since it was asked
	done        bool              // all is made and written down
	fault       error             // why the configuration that was given is refused as a whole
	edits       map[string]string // the refused edits, in the form of state.State
	valid       json.RawMessage   // the configuration without what is refused
	changes     daemonChanges
	marked      bool // state.json says that the reconfigure is incomplete

	keys        *lookup.KeyFiles
	names       map[string]config.Name // that were looked up
	credentials map[string]*credential.Credential
}

// Add makes a container, or brings one that runs to a new configuration in place.
func (e *Executable) Add(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbBudget)
	defer cancel()
	r, err := decodeRequest(args)
	if err != nil {
		return err
	}
	fault := r.take(r.document)
	raw, err := state.Compact(args.StdinData)
	if err != nil {
		return err
	}
	tools, missing := libreswan.FindTools()
	if len(missing) > 0 {
		if fault != nil {
			return fault
		}
		return fail(spec.CodeNotAvailable, "add %s: missing on this host: %s", r.owner.Name, strings.Join(missing, ", "))
	}
	folder, err := state.Open(ctx, e.Root, r.owner.Name, lockLimit)
	if err != nil {
		return err
	}
	defer folder.Close()
	c := &change{Executable: e, request: r, raw: raw, folder: folder, recorded: new(state.State), tools: tools, refused: map[string]string{}, fault: fault}
	recorded, err := folder.Load()
	if err != nil {
		return err
	}
	if recorded != nil {
		c.recorded, c.before = recorded, &recorded.Attachment
	}
	if err = c.canRun(); err == nil {
		err = c.fits(args.Netns)
	}
	if err != nil {
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
		if errors.Is(err, libreswan.ErrNotRunning) { // it has just ended: systemd starts it again, or CHECK tells
			return fail(spec.CodeAgain, "%w", err)
		}
	}
	return err
}

// canRun returns the fault of a configuration that is refused as a whole if there is no valid one to go on with.
func (c *change) canRun() error {
	if c.fault == nil || !c.request.keepsLastValid {
		return c.fault
	}
	loaded, err := c.daemon(c.tools, c.request.owner, c.folder.Path, c.recorded).Loaded()
	if err != nil {
		return err
	}
	if last := c.lastValid(loaded); last == nil || c.request.take(last) != nil {
		return c.fault
	}
	return nil
}

// fits says whether this ADD can be done at all, before anything is touched.
func (c *change) fits(namespace string) error {
	owner := c.request.owner
	inode, err := state.Inode(namespace)
	if err != nil {
		return fail(spec.CodeEnvironment, "add %s: CNI_NETNS: %w", owner.Name, err)
	}
	if err := network.Check(namespace); err != nil {
		return fmt.Errorf("add %s: %w", owner.Name, err)
	}
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
		if _, err := network.Held(owner); err != nil {
			return fmt.Errorf("add %s: %w", owner.Name, err)
		}
	}
	if bridge := c.request.bridge(); bridge != "" {
		if err := c.request.port.Check(); err != nil {
			return within("port", err)
		}
		if _, err := network.FindBridge(bridge); err != nil {
			return fmt.Errorf("add %s: %w", owner.Name, err)
		}
	}
	if c.before != nil && state.Lasts(c.before.Namespace) {
		namespace = c.before.Namespace
	}
	c.attachment = state.Attachment{Network: owner.Network, ContainerID: owner.ContainerID, Interface: c.request.iface,
		Namespace: namespace, Inode: inode, Chained: c.request.chained, Bridge: c.request.bridge()}
	return nil
}

func (c *change) run(ctx context.Context) error {
	daemon := c.daemon(c.tools, c.request.owner, c.folder.Path, c.recorded)
	loaded, err := daemon.Loaded()
	if err != nil {
		return err
	}
	if err := c.resolve(ctx, loaded); err != nil {
		return err
	}
	if err := c.changeable(ctx, daemon, loaded); err != nil {
		return err
	}
	c.old = c.oldPlan(loaded)
	if c.plan, err = c.request.plan(); err != nil {
		return err
	}
	if err := c.begin(ctx); err != nil {
		return err
	}
	return c.apply(ctx, daemon)
}

// networks tells which subnets the conns of the daemon join.
func networks(loaded map[string][]byte) map[string]config.Networks {
	found := map[string]config.Networks{}
	for conn, text := range loaded {
		found[conn] = render.Networks(text)
	}
	return found
}

// begin writes whose the container is, before anything of it exists: DEL and GC find the container by that. With the
// configuration, the ADD after one that was killed knows the addresses and routes that this one may have made. The files of
// release 0.1.0 are replaced here.
func (c *change) begin(ctx context.Context) error {
	if c.before == nil {
		if err := c.allocateUser(ctx); err != nil {
			return err
		}
		c.recorded.Attachment, c.recorded.Configuration = c.attachment, c.raw
	}
	if err := c.folder.Save(c.recorded); err != nil {
		return err
	}
	if err := c.folder.Share(c.recorded.UserID); err != nil {
		return err
	}
	if c.before != nil {
		if err := c.folder.RemoveOld(); err != nil {
			return err
		}
	}
	if err := c.folder.Tidy(); err != nil { // also of a first ADD, which may have been killed before it wrote whose the container is
		return err
	}
	// The pin is made after the first write, and its path is written before anything uses it. If the verb is killed before the
	// pin exists, the next ADD finds the path below /proc that it was given, and makes the pin.
	lasting, err := c.folder.Lasting(c.attachment.Namespace)
	if err != nil {
		return err
	}
	c.attachment.Namespace = lasting
	if c.recorded.Attachment.Namespace == lasting {
		return nil
	}
	c.recorded.Attachment.Namespace = lasting
	return c.folder.Save(c.recorded)
}

// finish writes the state that the container now has: CHECK compares with it.
func (c *change) finish() error {
	found := c.request.configuration.Found
	if len(found.Names) == 0 && len(c.refused) == 0 {
		found.At = time.Time{} // nothing depends on it, and an ADD that changes nothing writes nothing
	}
	done := *c.recorded
	done.Attachment, done.Configuration = c.attachment, c.raw
	done.GuardRules, done.GuardDigest = c.guardRules, c.guardDigest
	done.Found, done.Refused, done.Chosen = state.NewFound(found), c.refused, c.chosen()
	done.Incomplete = nil
	if c.touched {
		done.Retry = changedNow(time.Now())
	}
	c.noteEdits(&done)
	if err := c.folder.Save(&done); err != nil {
		return err
	}
	c.recorded, c.done = &done, true
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
