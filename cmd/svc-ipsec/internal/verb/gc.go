package verb

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// gcPatience is short: a container that another verb works on is no leftover.
const gcPatience = 100 * time.Millisecond

// GC removes the containers of a network that are not among the valid attachments. Without that key it removes nothing:
// libcni leaves it out when it was given none, and that must not mean all.
func (e *Executable) GC(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(gcBudget)
	defer cancel()
	var conf spec.Conf
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return fail(spec.CodeDecode, "gc: network configuration does not fit")
	}
	if conf.ValidAttachments == nil {
		return nil
	}
	names, err := state.List(e.Root)
	if err != nil {
		return err
	}
	var fault error
	for _, name := range names {
		if err := e.collect(ctx, name, conf.Name, *conf.ValidAttachments); err != nil {
			if fault == nil {
				fault = fmt.Errorf("gc %s: %w", name, err)
			} else {
				fault = fmt.Errorf("%w; gc %s: %w", fault, name, err)
			}
		}
	}
	return fault
}

func (e *Executable) collect(ctx context.Context, name spec.Name, network string, valid []spec.Attachment) error {
	folder, err := state.Find(ctx, e.Root, name, gcPatience)
	if err != nil {
		return nil // gone, or at work
	}
	defer folder.Close()
	recorded, err := folder.Load()
	if recorded == nil || recorded.Attachment.Network != network {
		if err != nil {
			e.Log.Warn("state unreadable, container not removed", slog.String("container", string(name)), slog.Any("error", err))
		}
		return nil // not known to be of this network
	}
	a := &recorded.Attachment
	if slices.Contains(valid, spec.Attachment{ContainerID: a.ContainerID, IfName: a.Interface}) {
		return nil
	}
	e.Log.Info("removing a container that is no longer attached", slog.String("container", string(name)), slog.String("id", string(a.ContainerID)))
	r := removal{Executable: e, owner: a.Owner(name), folder: folder, attachment: a}
	return r.run(ctx)
}
