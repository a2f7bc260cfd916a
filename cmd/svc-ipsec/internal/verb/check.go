package verb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/broken"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// restartWait is how long CHECK waits for a daemon that systemd is restarting.
const restartWait = 4 * time.Second

// Check compares the container with what ADD configured, and prints its health. It compares with the configuration that
// ADD recorded in the container's directory, because a runtime may lose or change its own copy. While a reconfigure is
// incomplete, it compares only what the reconfigure does not change.
func (e *Executable) Check(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbLimit)
	defer cancel()
	owner, err := cni.Identify(args)
	if err != nil {
		return err
	}
	dir, err := state.Find(ctx, e.Root, owner.Name, lockLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return cni.Fail(spec.CodeUnknownContainer, "check %s: no such container", owner.Name)
	}
	if err != nil {
		return checkError(err)
	}
	defer dir.Close()
	h, err := e.check(ctx, args, owner, dir)
	if err != nil {
		return checkError(fmt.Errorf("check %s: %w", owner.Name, err))
	}
	return json.NewEncoder(e.Out).Encode(h)
}

// checkError returns the error with a code: cni.CodeBroken if the container differs from its configuration, CodeAgain
// if the state of the container is unknown.
func checkError(err error) error {
	switch {
	case cni.HasCode(err):
		return err
	case broken.Is(err), errors.Is(err, network.ErrNameTaken),
		errors.Is(err, libreswan.ErrNotRunning), errors.Is(err, libreswan.ErrNoAnswer):
		return cni.Fail(cni.CodeBroken, "%w", err)
	default:
		return cni.Fail(spec.CodeAgain, "%w", err)
	}
}

func (e *Executable) check(ctx context.Context, args *skel.CmdArgs, owner spec.Owner,
	dir *state.Directory,
) (*spec.Health, error) {
	recorded, err := dir.Load()
	if err != nil {
		return nil, err
	}
	if recorded == nil || recorded.Attachment.Owner(owner.Name) != owner ||
		recorded.Attachment.Interface != args.IfName {
		return nil, cni.Fail(spec.CodeUnknownContainer, "the container of that name is not this one")
	}
	a := &recorded.Attachment
	if recorded.Configuration == nil {
		return nil, broken.Errorf("configuration in %s: gone", dir.Path)
	}
	r, err := cni.Decode(&skel.CmdArgs{
		ContainerID: args.ContainerID, IfName: a.Interface, StdinData: recorded.Configuration,
	})
	if err != nil {
		return nil, err
	}
	r.Configuration.Found = recorded.Found.Config()
	tools, _ := libreswan.FindTools()
	d := e.daemon(tools, owner, dir.Path, recorded)
	loaded, err := d.Files().Loaded()
	if err != nil {
		return nil, err
	}
	r.Configuration.Resolve(prepareResolve(r, loaded, recorded.Chosen))
	plan, err := r.Plan()
	if err != nil {
		return nil, err
	}
	daemonRuns := true
	if incomplete := recorded.Incomplete; incomplete != nil {
		plan, daemonRuns = &incomplete.Network, incomplete.Daemon
	}
	guardFault, err := checkNetwork(r, plan, recorded, args.Netns)
	if err != nil {
		return nil, err
	}
	wanted := r.Configuration.Wanted()
	var status *daemonStatus
	if daemonRuns {
		status, err = checkDaemon(ctx, wanted, d, recorded, loaded)
	} else {
		status, err = observeAny(ctx, wanted, d, a.Namespace)
	}
	if err != nil {
		return nil, err
	}
	status.removeMismatched(wanted, r.Configuration.Loaded)
	if err := recordTraffic(dir, recorded, status, time.Now()); err != nil {
		return nil, err
	}
	h := health(ctx, r.Configuration, d, status, recorded.Refused, recorded, true)
	stalled := againForStalled(connectionsOf(e.Root, wanted, status), recorded.Retry, time.Now())
	h.Again = earliest(completion(recorded), guardFault, h.Again, stalled)
	return h, nil
}
