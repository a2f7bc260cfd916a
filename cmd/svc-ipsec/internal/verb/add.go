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
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// change is one ADD in progress, for a new container or for a running one.
type change struct {
	*Executable
	request        *request
	raw            json.RawMessage // as state.Compact returns it
	dir            *state.Directory
	recorded       *state.State      // the content of state.json; later steps change it and save it again
	before         *state.Attachment // points into recorded; nil if the container is new
	attachment     state.Attachment
	guardRules     string // rules of the guard that this ADD has installed or found in place
	guardDigest    string
	namespace      *network.Namespace
	tools          libreswan.Tools
	plan           *network.Plan
	old            *network.Plan     // the network as the last successful ADD configured it, nil if there was none
	refused        map[string]string // conns that the daemon refused, with the reasons
	connsLoaded    bool              // conns were loaded and initiated
	databaseFailed bool              // the key database could not be read, or a certificate could not be imported
	keepsOutdated  bool              // the daemon is outdated (checkOutdated) and already has every wanted conn
	status         *daemonStatus     // status of the daemon, nil if it was changed after it was read
	finished       bool              // every step succeeded, and the result is in state.json
	fault          error             // why the given configuration is refused as a whole, nil if it is not
	edits          map[string]string // the refused edits, in the form of state.State
	valid          json.RawMessage   // the configuration without the refused edits
	changes        endpoint.Plan
	marked         bool // state.json records that the reconfigure is incomplete

	keys        *lookup.KeyFiles
	names       map[string]config.Name // results of the name lookups of this ADD, by peer name
	credentials map[string]*credential.Credential
}

// Add creates a container, or reconfigures a running one in place.
func (e *Executable) Add(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbLimit)
	defer cancel()
	r, err := decodeRequest(args)
	if err != nil {
		return err
	}
	fault := r.setConfiguration(r.document)
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
	dir, err := state.Open(ctx, e.Root, r.owner.Name, lockLimit)
	if err != nil {
		return err
	}
	defer dir.Close()
	c := &change{
		Executable: e, request: r, raw: raw, dir: dir, recorded: new(state.State), tools: tools,
		refused: map[string]string{}, fault: fault,
	}
	recorded, err := dir.Load()
	if err != nil {
		return err
	}
	if recorded != nil {
		c.recorded, c.before = recorded, &recorded.Attachment
	}
	if err = c.checkConfiguration(); err == nil {
		err = c.checkAttachment(args.Netns)
	}
	if err != nil {
		if c.before == nil {
			dir.RemoveIfEmpty()
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
		if !c.finished {
			c.restore()
		}
		// The daemon has just ended: systemd restarts it, or the next CHECK reports it.
		if errors.Is(err, libreswan.ErrNotRunning) {
			return fail(spec.CodeAgain, "%w", err)
		}
	}
	return err
}

// checkConfiguration returns the fault of a configuration that is refused as a whole, or nil if the last valid
// configuration can be used instead.
func (c *change) checkConfiguration() error {
	if c.fault == nil || !c.request.keepsLastValid {
		return c.fault
	}
	loaded, err := c.daemon(c.tools, c.request.owner, c.dir.Path, c.recorded).Loaded()
	if err != nil {
		return err
	}
	if last := c.lastValid(loaded); last == nil || c.request.setConfiguration(last) != nil {
		return c.fault
	}
	return nil
}

// checkAttachment returns an error if this ADD cannot be done, before it changes anything. Otherwise it sets
// c.attachment.
func (c *change) checkAttachment(namespace string) error {
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
		case before.Network != owner.Network || before.ContainerID != owner.ContainerID ||
			before.Interface != c.request.iface:
			return fail(spec.CodeEnvironment,
				"add %s: the name is held by container %s of network %s (CNI_IFNAME %s)", owner.Name,
				spec.Quote(string(before.ContainerID)), spec.Quote(before.Network), before.Interface)
		case before.Inode != inode:
			return fail(spec.CodeNotInPlace, "add %s: CNI_NETNS is not the container's namespace; it cannot be changed in place",
				owner.Name)
		case before.Chained != c.request.chained:
			return fail(spec.CodeNotInPlace, "add %s: cannot switch between chained and stand-alone in place (prevResult)",
				owner.Name)
		}
	} else if !c.request.chained {
		if _, err := network.HasHostLink(owner); err != nil {
			return fmt.Errorf("add %s: %w", owner.Name, err)
		}
	}
	if bridge := c.request.bridge(); bridge != "" {
		if err := c.request.port.Check(); err != nil {
			return faultBelow("port", err)
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
	daemon := c.daemon(c.tools, c.request.owner, c.dir.Path, c.recorded)
	loaded, err := daemon.Loaded()
	if err != nil {
		return err
	}
	if err := c.resolve(ctx, loaded); err != nil {
		return err
	}
	if err := c.checkOutdated(ctx, daemon, loaded); err != nil {
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

// begin writes the container's owner to state.json before anything else of the container exists, because DEL and GC
// find the container by its state.json. The configuration is written too: if this verb is killed, the next ADD reads
// from it which addresses and routes may exist. begin also replaces the files of release 0.1.0.
func (c *change) begin(ctx context.Context) error {
	if c.before == nil {
		if err := c.allocateUser(ctx); err != nil {
			return err
		}
		c.recorded.Attachment, c.recorded.Configuration = c.attachment, c.raw
	}
	if err := c.dir.Save(c.recorded); err != nil {
		return err
	}
	if err := c.dir.Share(c.recorded.UserID); err != nil {
		return err
	}
	if c.before != nil {
		if err := c.dir.RemoveOld(); err != nil {
			return err
		}
	}
	// Needed for a first ADD too: an earlier one may have been killed before it wrote state.json.
	if err := c.dir.Tidy(); err != nil {
		return err
	}
	// The namespace is pinned after the first write, and the path of the pin is written before anything uses it. If the
	// verb is killed before the pin exists, the next ADD finds the recorded path below /proc and creates the pin.
	lasting, err := c.dir.Lasting(c.attachment.Namespace)
	if err != nil {
		return err
	}
	c.attachment.Namespace = lasting
	if c.recorded.Attachment.Namespace == lasting {
		return nil
	}
	c.recorded.Attachment.Namespace = lasting
	return c.dir.Save(c.recorded)
}

// finish writes the resulting state to state.json. CHECK compares the container with it.
func (c *change) finish() error {
	found := c.request.configuration.Found
	if len(found.Names) == 0 && len(c.refused) == 0 {
		// Nothing depends on the time, and without it an ADD that changes nothing does not write the file.
		found.At = time.Time{}
	}
	done := *c.recorded
	done.Attachment, done.Configuration = c.attachment, c.raw
	done.GuardRules, done.GuardDigest = c.guardRules, c.guardDigest
	done.Found, done.Refused, done.Chosen = state.NewFound(found), c.refused,
		endpoint.Chosen(c.request.configuration.Wanted())
	done.Incomplete = nil
	if c.connsLoaded {
		done.Retry = state.Retry(endpoint.JustLoaded(time.Now()))
	}
	c.recordEdits(&done)
	if err := c.dir.Save(&done); err != nil {
		return err
	}
	c.recorded, c.finished = &done, true
	return nil
}

// undo removes everything that a failed first ADD has created.
func (c *change) undo() error {
	ctx, cancel := c.cleanupBudget()
	defer cancel()
	removal := removal{Executable: c.Executable, owner: c.request.owner, dir: c.dir, attachment: &c.attachment}
	if err := removal.run(ctx); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}
