package verb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// removal removes one container, for DEL, GC or a failed ADD.
type removal struct {
	bus        *unit.Bus
	users      Users
	log        *slog.Logger
	owner      spec.Owner
	dir        *state.Directory
	attachment *state.Attachment // nil: unknown
	namespace  string            // the path that the runtime passed, "" if none
	warned     bool
	// mayHavePolicies means that a daemon of this container may have left policies and SAs in the namespace.
	mayHavePolicies bool
}

// removal returns the removal of a container. attachment is nil if it is unknown.
func (e *Executable) removal(owner spec.Owner, dir *state.Directory, attachment *state.Attachment) *removal {
	return &removal{bus: e.Bus, users: e.Users, log: e.Log, owner: owner, dir: dir, attachment: attachment}
}

// run removes all parts of the container. After an error it continues with the other parts. But if the daemon could not
// be stopped, the network stays, because the daemon needs it to send DELETE to its peers.
func (r *removal) run(ctx context.Context) error {
	if err := r.stopUnit(ctx); err != nil {
		return err
	}
	var faults []error
	// The interface is removed before the guard, so that no packet can leave in clear in between.
	for _, step := range []func(context.Context) error{r.removeHostLink, r.cleanNamespace} {
		if err := step(ctx); err != nil {
			faults = append(faults, err)
		}
	}
	if err := joinErrors(faults); err != nil {
		return err
	}
	if err := r.dir.Remove(); err != nil {
		return err
	}
	return r.users.Release(ctx, r.owner, r.userExists)
}

// joinErrors combines several errors into one line. It returns nil if there is no error.
func joinErrors(faults []error) (err error) {
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

// userExists reports whether the container's network namespace still exists and is owned by this user ID. The runtime
// removes the namespace.
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

// ownsNamespace reports whether one of these paths is a network namespace that is owned by a user namespace of this
// user ID.
func ownsNamespace(id uint32, paths ...string) (bool, error) {
	for _, path := range paths {
		owned, err := ownedBy(path, id)
		switch {
		// The path, or the process that had the namespace, does not exist any more.
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		case errors.Is(err, unix.ENOTTY): // a plain file, which remains when a namespace is unmounted
		case owned || err != nil:
			return owned, err
		}
	}
	return false, nil
}

// warnForeign logs once that a part of this name belongs to another container.
func (r *removal) warnForeign(what, tag string) {
	if !r.warned {
		r.log.Warn("not removed: the owner tag is not this container's",
			slog.String("container", string(r.owner.Name)), slog.String("what", what),
			slog.String("tag", tag), slog.String("network", r.owner.Network))
	}
	r.warned = true
}

// stopUnit stops the daemon if its unit has this container's owner tag.
func (r *removal) stopUnit(ctx context.Context) error {
	name := r.owner.Name.Unit()
	details, err := r.bus.Show(ctx, name)
	if err != nil {
		return err
	}
	if details.Name == "" || details.LoadState == "" || details.LoadState == "not-found" {
		// systemd unloads a unit that was stopped. A daemon that was killed while it stopped has left its policies. The
		// key database exists if a daemon was started, or was about to be.
		_, err := os.Lstat(libreswan.Files(r.dir.Path).NSS())
		r.mayHavePolicies = !errors.Is(err, fs.ErrNotExist)
		return nil
	}
	if details.Owner.Network != r.owner.Network || details.Owner.Name != r.owner.Name {
		r.warnForeign(name, details.Owner.String())
		return nil
	}
	r.mayHavePolicies = true
	d := libreswan.Daemon{Bus: r.bus, Owner: r.owner, Dir: r.dir.Path}
	return d.Stop(ctx)
}

// cleanNamespace removes from the network namespace what this plugin created there. The namespace itself belongs to the
// runtime and may stay.
func (r *removal) cleanNamespace(ctx context.Context) error {
	path := r.namespace
	if r.attachment != nil && r.attachment.Namespace != "" {
		path = r.attachment.Namespace
		if inode, err := state.Inode(path); err != nil || inode != r.attachment.Inode {
			return nil // the namespace is gone, or another namespace has its path
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
		namespace.Veth(r.owner).RemoveOld()
		return nil
	}
	if r.attachment.Chained {
		if err := namespace.RemoveOwnRoutes(r.attachment.Interface); err != nil {
			return err
		}
	} else {
		namespace.Veth(r.owner).RemoveOld()
	}
	if r.mayHavePolicies {
		if err := namespace.XFRM().Flush(); err != nil {
			return err
		}
	}
	if r.owner.Network == spec.Network && !r.attachment.Chained {
		return nil // the supervisor removes its namespace after DEL, and with it the guard
	}
	tools, _ := libreswan.FindTools()
	return namespace.Guard().Remove(ctx, tools.NFT, r.attachment.Guard)
}

// removeHostLink removes the veth if its alias is this container's owner tag.
func (r *removal) removeHostLink(context.Context) error {
	err := network.RemoveHostLink(r.owner)
	if errors.Is(err, network.ErrNameTaken) {
		r.warnForeign("interface "+string(r.owner.Name), err.Error())
		return nil
	}
	return err
}
