package verb

import (
	"fmt"
	"log/slog"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
)

// Del removes a container. Its name is sufficient: everything else is recorded in its directory or found by owner tag.
// If state.json is damaged, or of a newer version, Del removes the unit, the veth and the guard by name and owner tag,
// and then the directory.
func (e *Executable) Del(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbLimit)
	defer cancel()
	owner, err := cni.Identify(args)
	if err != nil {
		// ADD refuses such a name, so nothing of this container can exist.
		e.Log.Warn("nothing to remove under such a name", slog.Any("error", err))
		return nil
	}
	dir, err := state.Open(ctx, e.Root, owner.Name, lockLimit)
	if err != nil {
		return err
	}
	defer dir.Close()
	recorded, err := dir.Load()
	if err != nil {
		e.Log.Warn("state damaged, removing what has the name and the owner tag",
			slog.String("container", string(owner.Name)), slog.Any("error", err))
	}
	var attachment *state.Attachment
	switch {
	case recorded != nil:
		attachment = &recorded.Attachment
	case err != nil:
		attachment = &state.Attachment{Network: owner.Network, ContainerID: owner.ContainerID}
	}
	if attachment != nil && attachment.Network != owner.Network {
		r := e.removal(owner, dir, attachment)
		r.warnForeign("state directory", attachment.Owner(owner.Name).String())
		return nil
	}
	if attachment != nil && attachment.ContainerID != owner.ContainerID {
		e.Log.Info("removing a container of another id", slog.String("container", string(owner.Name)),
			slog.String("id", string(attachment.ContainerID)), slog.String("asked", string(owner.ContainerID)))
	}
	r := e.removal(owner, dir, attachment)
	r.namespace = args.Netns
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("del %s: %w", owner.Name, err)
	}
	return nil
}
