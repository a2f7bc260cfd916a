package verb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Del removes a container. It needs no more than its name: everything else is in its directory, or on its parts. If the
// state is damaged, or of a newer version, it removes the unit, the veth and the guard by name and owner tag, and the directory.
func (e *Executable) Del(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbBudget)
	defer cancel()
	owner, err := identify(args)
	if err != nil {
		// No such name can have been made by ADD, so nothing of it is here.
		e.Log.Warn("nothing to remove under such a name", slog.Any("error", err))
		return nil
	}
	folder, err := state.Open(ctx, e.Root, owner.Name, lockLimit)
	if err != nil {
		return err
	}
	defer folder.Close()
	recorded, err := folder.Load()
	if err != nil {
		e.Log.Warn("state damaged, removing what has the name and the owner tag", slog.String("container", string(owner.Name)), slog.Any("error", err))
	}
	var attachment *state.Attachment
	switch {
	case recorded != nil:
		attachment = &recorded.Attachment
	case err != nil:
		attachment = &state.Attachment{Network: owner.Network, ContainerID: owner.ContainerID}
	}
	if attachment != nil && attachment.Network != owner.Network {
		e.warnForeign(owner, "state directory", attachment.Network+":"+string(owner.Name)+":"+string(attachment.ContainerID))
		return nil
	}
	if attachment != nil && attachment.ContainerID != owner.ContainerID {
		e.Log.Info("removing a container of another id", slog.String("container", string(owner.Name)),
			slog.String("id", string(attachment.ContainerID)), slog.String("asked", string(owner.ContainerID)))
	}
	r := removal{Executable: e, owner: owner, folder: folder, attachment: attachment, namespace: args.Netns}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("del %s: %w", owner.Name, err)
	}
	return nil
}

func (e *Executable) warnForeign(owner spec.Owner, what, tag string) {
	e.Log.Warn("left alone: it does not carry our owner tag", slog.String("container", string(owner.Name)), slog.String("what", what),
		slog.String("tag", tag), slog.String("network", owner.Network))
}

// removal takes away one container: DEL's, GC's, or a failed ADD's.
type removal struct {
	*Executable
	owner      spec.Owner
	folder     *state.Directory
	attachment *state.Attachment // nil: not known
	namespace  string            // what the runtime named, if anything
	warned     bool
	stopped    bool // a daemon of ours ran
}

// run removes every part. It continues after an error, so that the remaining parts are removed too; but the network of a daemon that
// could not be stopped stays, because the daemon could not inform its peers without it.
func (r *removal) run(ctx context.Context) error {
	if err := r.unit(ctx); err != nil {
		return err
	}
	var faults []error
	// The interface is removed before the guard, so that no packet can leave unencrypted in between.
	for _, step := range []func(context.Context) error{r.outside, r.inside} {
		if err := step(ctx); err != nil {
			faults = append(faults, err)
		}
	}
	if err := joined(faults); err != nil {
		return err
	}
	if err := r.folder.Remove(); err != nil {
		return err
	}
	return r.Users.Release(ctx, r.owner, r.userExists)
}

// joined is one line of several errors, nil if there is none.
func joined(faults []error) (err error) {
	for _, next := range faults {
		switch {
		case err == nil:
			err = next
		case next != nil:
			err = fmt.Errorf("%w; %w", err, next)
		}
	}
	return err
}

// userExists reports whether the network namespace is still there that belongs to this user id. It is the runtime's to remove.
func (r *removal) userExists(id uint32) (bool, error) {
	path := r.namespace
	if r.attachment != nil {
		path = r.attachment.Namespace
	}
	if path == "" {
		return false, nil
	}
	return ownsNamespace(id, path)
}

// ownsNamespace reports whether there is a network namespace at one of these paths that is owned by a user namespace of this user id.
func ownsNamespace(id uint32, paths ...string) (bool, error) {
	for _, path := range paths {
		owned, err := ownedBy(path, id)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH): // also the process that had it
		case errors.Is(err, unix.ENOTTY): // a plain file, as a removed namespace leaves it behind
		case owned || err != nil:
			return owned, err
		}
	}
	return false, nil
}

func (r *removal) foreign(what, tag string) {
	if !r.warned {
		r.warnForeign(r.owner, what, tag)
	}
	r.warned = true
}

// unit stops the daemon, if the unit is ours by its tag.
func (r *removal) unit(ctx context.Context) error {
	name := r.owner.Name.Unit()
	details, err := r.Bus.Show(ctx, name)
	if err != nil {
		return err
	}
	if details.Name == "" || details.LoadState == "" || details.LoadState == "not-found" {
		return nil
	}
	if details.Owner.Network != r.owner.Network || details.Owner.Name != r.owner.Name {
		r.foreign(name, details.Owner.String())
		return nil
	}
	r.stopped = true
	d := libreswan.Daemon{Bus: r.Bus, Owner: r.owner, Folder: r.folder.Path}
	return d.Stop(ctx)
}

// inside takes our parts out of the namespace, which may stay: a runtime's is its own.
func (r *removal) inside(ctx context.Context) error {
	path := r.namespace
	if r.attachment != nil && r.attachment.Namespace != "" {
		path = r.attachment.Namespace
		if inode, err := state.Inode(path); err != nil || inode != r.attachment.Inode {
			return nil // the namespace is gone, or another has its path
		}
	}
	if path == "" {
		return nil
	}
	namespace, err := network.Open(path)
	if err != nil {
		return nil
	}
	defer namespace.Close()
	if r.attachment == nil {
		namespace.RemoveUnfinished(r.owner)
		return nil
	}
	if r.attachment.Chained {
		if err := namespace.Leave(r.attachment.Interface); err != nil {
			return err
		}
	} else {
		namespace.RemoveUnfinished(r.owner)
	}
	if r.stopped {
		if err := namespace.Flush(); err != nil {
			return err
		}
	}
	if r.owner.Network == spec.Network && !r.attachment.Chained {
		return nil // the supervisor removes its namespace after DEL, and the guard with it
	}
	tools, _ := libreswan.FindTools()
	return namespace.RemoveGuard(ctx, tools.NFT, r.attachment.Guard)
}

// outside removes the veth, if it is ours by its alias.
func (r *removal) outside(context.Context) error {
	err := network.RemoveHost(r.owner)
	if errors.Is(err, network.ErrTaken) {
		r.foreign("interface "+string(r.owner.Name), err.Error())
		return nil
	}
	return err
}
