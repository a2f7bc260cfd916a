package verb

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/credential"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/lookup"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// change is one ADD in progress, for a new container or for a running one. Its parts have one job each: edits decides
// which configuration is used, networkChange and daemonChange bring network and daemon into line with it, and record
// has what state.json says.
type change struct {
	*Executable
	request    *cni.Request
	tools      libreswan.Tools
	record     *record
	attachment state.Attachment
	edits      *edits
	network    *networkChange
	daemon     *daemonChange
	finished   bool // every step succeeded, and the result is in state.json
}

// Add creates a container, or reconfigures a running one in place.
func (e *Executable) Add(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbLimit)
	defer cancel()
	r, err := cni.DecodeRequest(args)
	if err != nil {
		return err
	}
	fault := r.SetConfiguration(r.Document)
	conf, err := state.Compact(args.StdinData)
	if err != nil {
		return err
	}
	tools, missing := libreswan.FindTools()
	if len(missing) > 0 {
		if fault != nil {
			return fault
		}
		return cni.Fail(spec.CodeNotAvailable, "add %s: missing on this host: %s", r.Owner.Name,
			strings.Join(missing, ", "))
	}
	dir, err := state.Open(ctx, e.Root, r.Owner.Name, lockLimit)
	if err != nil {
		return err
	}
	defer dir.Close()
	recorded, err := loadRecord(dir)
	if err != nil {
		return err
	}
	c := &change{
		Executable: e, request: r, tools: tools, record: recorded,
		edits: &edits{request: r, record: recorded, fault: fault, conf: conf},
	}
	if err = c.edits.check(c.newDaemon().Files().Loaded); err == nil {
		err = c.checkAttachment(args.Netns)
	}
	if err != nil {
		if recorded.isNew() {
			dir.RemoveIfEmpty()
		}
		return err
	}
	err = c.run(ctx)
	if err == nil {
		err = c.print(ctx)
	}
	if err != nil {
		return c.failed(fmt.Errorf("add %s: %w", r.Owner.Name, err))
	}
	return nil
}

// failed removes a new container, or restores a running one, after an error, and returns the error of ADD.
func (c *change) failed(err error) error {
	if c.record.isNew() {
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
		return cni.Fail(spec.CodeAgain, "%w", err)
	}
	return err
}

// newDaemon returns the daemon of the container, as it is recorded.
func (c *change) newDaemon() *libreswan.Daemon {
	return c.Executable.daemon(c.tools, c.request.Owner, c.record.dir.Path, c.record.state)
}

// checkAttachment returns an error if this ADD cannot be done, before it changes anything. Otherwise it sets
// c.attachment.
func (c *change) checkAttachment(namespace string) error {
	owner := c.request.Owner
	inode, err := state.Inode(namespace)
	if err != nil {
		return cni.Fail(spec.CodeEnvironment, "add %s: CNI_NETNS: %w", owner.Name, err)
	}
	if err := network.Check(namespace); err != nil {
		return fmt.Errorf("add %s: %w", owner.Name, err)
	}
	if before := c.record.before; before != nil {
		switch {
		case before.Network != owner.Network || before.ContainerID != owner.ContainerID ||
			before.Interface != c.request.Interface:
			return cni.Fail(spec.CodeEnvironment,
				"add %s: the name is held by container %s of network %s (CNI_IFNAME %s)", owner.Name,
				spec.Quote(string(before.ContainerID)), spec.Quote(before.Network), before.Interface)
		case before.Inode != inode:
			return cni.Fail(spec.CodeNotInPlace,
				"add %s: CNI_NETNS is not the container's namespace; it cannot be changed in place", owner.Name)
		case before.Chained != c.request.Chained:
			return cni.Fail(spec.CodeNotInPlace,
				"add %s: cannot switch between chained and stand-alone in place (prevResult)", owner.Name)
		}
		if state.IsPersistent(before.Namespace) {
			namespace = before.Namespace
		}
	} else if !c.request.Chained {
		if _, err := network.HasHostLink(owner); err != nil {
			return fmt.Errorf("add %s: %w", owner.Name, err)
		}
	}
	if bridge := c.request.Bridge(); bridge != "" {
		if err := c.request.Port.Check(); err != nil {
			return cni.FaultBelow("port", err)
		}
		if _, err := network.FindBridge(bridge); err != nil {
			return fmt.Errorf("add %s: %w", owner.Name, err)
		}
	}
	c.attachment = state.Attachment{Network: owner.Network, ContainerID: owner.ContainerID,
		Interface: c.request.Interface,
		Namespace: namespace, Inode: inode, Chained: c.request.Chained, Bridge: c.request.Bridge()}
	return nil
}

// run decides what to do, and does it.
func (c *change) run(ctx context.Context) error {
	loaded, err := c.newDaemon().Files().Loaded()
	if err != nil {
		return err
	}
	in := &inputs{
		keys: lookup.OpenKeyFiles(c.KeyDirectory), resolver: c.LookUp, tools: c.tools,
		last: c.record.state.Found.Config(),
	}
	if err := c.edits.resolve(ctx, in, loaded); err != nil {
		return err
	}
	in.warnOfUnexpected(c.Log, c.KeyDirectory, c.request.Owner.Name)
	daemon := c.newDaemonChange(in.credentials)
	if !c.record.isNew() {
		edited := string(c.record.state.Configuration) != string(c.edits.conf)
		if err := daemon.checkOutdated(ctx, loaded, c.record.state.Refused, edited); err != nil {
			return err
		}
	}
	old := c.record.lastPlan(loaded)
	plan, err := c.request.Plan()
	if err != nil {
		return err
	}
	c.daemon, c.network = daemon, c.newNetworkChange(plan, old)
	if err := c.begin(ctx); err != nil {
		return err
	}
	return c.apply(ctx)
}

// newDaemonChange returns the change of the daemon to the configuration of the request.
func (c *change) newDaemonChange(credentials map[string]*credential.Credential) *daemonChange {
	d, wanted := c.newDaemon(), c.request.Configuration.Wanted()
	return &daemonChange{
		daemon: d, wanted: wanted, files: daemonFiles{c.record.dir}, isolator: c.newIsolator(),
		database: &keyDatabase{
			daemon: d, record: c.record, wanted: wanted, credentials: credentials,
			template: filepath.Join(c.Root, nssTemplate), log: c.Log,
		},
		result: daemonResult{refused: map[string]string{}},
	}
}

// newNetworkChange returns the change from one network to another.
func (c *change) newNetworkChange(plan, old *network.Plan) *networkChange {
	return &networkChange{
		owner: c.request.Owner, plan: plan, old: old, record: c.record, attachment: &c.attachment, nft: c.tools.NFT,
		log: c.Log,
	}
}

func (c *change) newIsolator() *isolator {
	return &isolator{users: c.Users, root: c.Root, self: c.Self, owner: c.request.Owner, record: c.record}
}

// begin writes the container's owner to state.json before anything else of the container exists, because DEL and GC
// find the container by its state.json. The configuration is written too: if this verb is killed, the next ADD reads
// from it which addresses and routes may exist. begin also replaces the files of release 0.1.0.
func (c *change) begin(ctx context.Context) error {
	r := c.record
	if r.isNew() {
		if err := c.newIsolator().allocateUser(ctx); err != nil {
			return err
		}
		r.state.Attachment, r.state.Configuration = c.attachment, c.edits.conf
	}
	if err := r.save(); err != nil {
		return err
	}
	if err := r.dir.Share(r.state.UserID); err != nil {
		return err
	}
	if !r.isNew() {
		if err := r.dir.RemoveOld(); err != nil {
			return err
		}
	}
	// Needed for a first ADD too: an earlier one may have been killed before it wrote state.json.
	if err := r.dir.Files().Tidy(); err != nil {
		return err
	}
	// The namespace is pinned after the first write, and the path of the pin is written before anything uses it. If the
	// verb is killed before the pin exists, the next ADD finds the recorded path below /proc and creates the pin.
	lasting, err := r.dir.Pin().Persist(c.attachment.Namespace)
	if err != nil {
		return err
	}
	c.attachment.Namespace = lasting
	if r.state.Attachment.Namespace == lasting {
		return nil
	}
	r.state.Attachment.Namespace = lasting
	return r.save()
}

// finish writes the resulting state to state.json. CHECK compares the container with it.
func (c *change) finish() error {
	found, result := c.request.Configuration.Found, c.daemon.result
	if len(found.Names) == 0 && len(result.refused) == 0 {
		// Nothing depends on the time, and without it an ADD that changes nothing does not write the file.
		found.At = time.Time{}
	}
	done := *c.record.state
	done.Attachment, done.Configuration = c.attachment, c.edits.conf
	done.GuardRules, done.GuardDigest = c.network.guard.rules, c.network.guard.digest
	done.Found, done.Refused = state.NewFound(found), result.refused
	done.Chosen = endpoint.Chosen(c.request.Configuration.Wanted())
	done.Incomplete = nil
	if result.connsLoaded {
		done.Retry = state.Retry(endpoint.JustLoaded(time.Now()))
	}
	c.edits.save(&done, c.Log)
	if err := c.record.replace(&done); err != nil {
		return err
	}
	c.finished = true
	return nil
}

// undo removes everything that a failed first ADD has created.
func (c *change) undo() error {
	ctx, cancel := c.cleanupBudget()
	defer cancel()
	if err := c.removal(c.request.Owner, c.record.dir, &c.attachment).run(ctx); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}
