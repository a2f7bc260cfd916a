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
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/internal/patience"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// settleWithin is how long CHECK waits for a daemon that systemd is restarting.
const settleWithin = 4 * time.Second

// Check says whether what ADD promised still holds, and how the tunnels do. It compares with what ADD was given, kept in
// the container's folder: a runtime may lose or change its own copy. While a reconfigure is incomplete, it compares with what that
// does not change.
func (e *Executable) Check(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbBudget)
	defer cancel()
	owner, err := identify(args)
	if err != nil {
		return err
	}
	folder, err := state.Find(ctx, e.Root, owner.Name, lockLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(spec.CodeUnknownContainer, "check %s: no such container", owner.Name)
	}
	if err != nil {
		return answerOfCheck(err)
	}
	defer folder.Close()
	h, err := e.check(ctx, args, owner, folder)
	if err != nil {
		return answerOfCheck(fmt.Errorf("check %s: %w", owner.Name, err))
	}
	return json.NewEncoder(e.Out).Encode(h)
}

// answerOfCheck gives an error its code: that of a broken container, or that of one whose state is not known.
func answerOfCheck(err error) error {
	switch {
	case errors.As(err, new(*coded)):
		return err
	case broken.Is(err), errors.Is(err, network.ErrTaken), errors.Is(err, libreswan.ErrNotRunning), errors.Is(err, libreswan.ErrNoAnswer):
		return fail(codeBroken, "%w", err)
	default:
		return fail(spec.CodeAgain, "%w", err)
	}
}

func (e *Executable) check(ctx context.Context, args *skel.CmdArgs, owner spec.Owner, folder *state.Directory) (*spec.Health, error) {
	recorded, err := folder.Load()
	if err != nil {
		return nil, err
	}
	if recorded == nil || recorded.Attachment.Owner(owner.Name) != owner || recorded.Attachment.Interface != args.IfName {
		return nil, fail(spec.CodeUnknownContainer, "the container of that name is not this one")
	}
	a := &recorded.Attachment
	if recorded.Configuration == nil {
		return nil, broken.Errorf("configuration in %s: gone", folder.Path)
	}
	r, err := decode(&skel.CmdArgs{ContainerID: args.ContainerID, IfName: a.Interface, StdinData: recorded.Configuration})
	if err != nil {
		return nil, err
	}
	r.configuration.Found = recorded.Found.Config()
	tools, _ := libreswan.FindTools()
	d := e.daemon(tools, owner, folder.Path, recorded)
	loaded, err := d.Loaded()
	if err != nil {
		return nil, err
	}
	r.configuration.Resolve(r.ran(loaded, recorded.Chosen))
	plan, err := r.plan()
	if err != nil {
		return nil, err
	}
	daemonRuns := true
	if incomplete := recorded.Incomplete; incomplete != nil {
		plan, daemonRuns = &incomplete.Network, incomplete.Daemon
	}
	unguarded, err := e.checkNetwork(r, plan, recorded, args.Netns)
	if err != nil {
		return nil, err
	}
	wanted := r.configuration.Wanted()
	var v *view
	if daemonRuns {
		v, err = e.checkDaemon(ctx, wanted, d, recorded, loaded)
	} else {
		v, err = seeAny(ctx, wanted, d, a.Namespace)
	}
	if err != nil {
		return nil, err
	}
	v.only(wanted, r.configuration.Loaded)
	if err := keepTraffic(folder, recorded, v, time.Now()); err != nil {
		return nil, err
	}
	h := health(ctx, r.configuration, d, v, recorded.Refused, recorded, true)
	h.Again = soonest(completion(recorded), unguarded, h.Again, e.wishOfCheck(recorded.Retry, wanted, v))
	return h, nil
}

// checkNetwork compares the network with the plan. The result asks for ADD where a guard or a sysctl has to be set again.
func (e *Executable) checkNetwork(r *request, plan *network.Plan, recorded *state.State, path string) (*spec.Again, error) {
	a := &recorded.Attachment
	for _, p := range []string{a.Namespace, path} {
		inode, err := state.Inode(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, broken.Errorf("%s is gone", p)
		}
		if err != nil {
			return nil, err
		}
		if inode != a.Inode {
			return nil, broken.Errorf("%s is another namespace than the container's", p)
		}
	}
	namespace, err := network.Open(a.Namespace)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	if err := namespace.Verify(plan); err != nil {
		return nil, err
	}
	var again *spec.Again
	wrong, err := namespace.WrongSetting(plan)
	if err != nil {
		return nil, err
	}
	if wrong != "" { // ADD sets it again in place
		again = &spec.Again{Reason: wrong}
	}
	found, err := namespace.FindGuard(a.Guard, plan.Guard, recorded.GuardDigest)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Guard == network.GuardTable && found == network.GuardGone:
		return nil, broken.Errorf("the guard against packets in clear is gone")
	case a.Guard == network.GuardPolicies && found != network.GuardWhole:
		// Libreswan 5 flushes this kind whenever systemd restarts it: no reason to drop the tunnels.
		again = &spec.Again{Reason: "the guard's policies are gone"}
	case a.Guard == network.GuardTable && found == network.GuardChanged:
		again = &spec.Again{Reason: "the guard against packets in clear was changed"}
	case recorded.GuardRules != string(plan.Guard.Rules()): // set by an earlier version, or by an ADD that failed
		again = &spec.Again{Reason: "the guard against packets in clear is not the one of this configuration"}
	}
	if r.chained {
		return again, nil
	}
	host, err := network.ObserveHost(r.owner)
	switch {
	case err != nil:
		return nil, err
	case host == nil:
		return nil, broken.Errorf("interface %s is gone", r.owner.Name)
	case !host.Up:
		return nil, broken.Errorf("interface %s is down", r.owner.Name)
	}
	if wrong, err = network.WrongHostSetting(r.owner); err != nil {
		return nil, err
	}
	if wrong != "" {
		again = &spec.Again{Reason: wrong}
	}
	if plan.Bridge == "" {
		return again, nil
	}
	bridge, err := network.FindBridge(plan.Bridge) // as ADD finds it: the name may be an alternative one
	if errors.Is(err, network.ErrNoBridge) {
		return nil, broken.Errorf("bridge %s is gone", plan.Bridge)
	}
	if err != nil {
		return nil, err
	}
	if host.Master != bridge.Attrs().Index {
		return nil, broken.Errorf("interface %s is not in bridge %s", r.owner.Name, plan.Bridge)
	}
	return again, nil
}

// checkDaemon returns the view of the daemon, and an error if it does not run, does not answer or has lost a conn that it had
// accepted. One that systemd has just restarted gets the time to come up and to read its files.
func (e *Executable) checkDaemon(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon, recorded *state.State,
	loaded map[string][]byte,
) (*view, error) {
	namespace := recorded.Attachment.Namespace
	if len(wanted) == 0 {
		return new(view), nil
	}
	for clock := patience.Start(); ; {
		u, err := e.Bus.Show(ctx, d.Unit())
		if err != nil {
			return nil, err
		}
		fault := broken.Errorf("the daemon does not run: %s", u.State())
		if u.Gone() || u.FailedForGood() {
			return nil, fault
		}
		if u.Running() {
			var v *view
			if v, fault = complete(ctx, wanted, d, u, namespace, loaded); fault == nil {
				return v, nil
			}
		}
		if ctx.Err() != nil { // it may still come up
			return nil, fmt.Errorf("wait for the daemon: %w", context.Cause(ctx))
		}
		if clock.Elapsed() > settleWithin {
			if u.Running() && (errors.Is(fault, libreswan.ErrNotRunning) || errors.Is(fault, libreswan.ErrNoAnswer)) {
				return nil, cannotAsk(wanted, d, recorded, fault)
			}
			return nil, fault
		}
		time.Sleep(answerPause)
	}
}

// cannotAsk gives an error of asking a daemon that runs a code: nothing may be taken down for it while the daemon's tunnels are in the
// kernel, or while it is not known which connections it should have. Something else may be in the place of its control socket, or
// whack may hang. systemd ends a daemon that itself hangs (WatchdogSec).
func cannotAsk(wanted []*config.Connection, d *libreswan.Daemon, recorded *state.State, fault error) error {
	up, err := upInKernel(wanted, recorded.Attachment.Namespace)
	if err == nil && len(up) == 0 && recorded.Incomplete == nil {
		return fault
	}
	return fail(spec.CodeAgain, "the unit runs, and its daemon cannot be asked (if that lasts: svc-supervisor restart %s): %w", d.Owner.Name, fault)
}

// complete returns the view of a daemon that has all conns that it had accepted. One that cannot be asked counts as
// complete: the health reports that it is of another Libreswan.
func complete(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon, u unit.Details, namespace string,
	loaded map[string][]byte,
) (*view, error) {
	v, err := seeUnit(ctx, wanted, d, u, namespace)
	if err != nil || v.build != nil && !v.build.Compatible() {
		return v, err
	}
	for conn := range loaded {
		if _, ok := v.conns[conn]; !ok {
			return nil, broken.Errorf("the daemon has lost conn %s", conn)
		}
	}
	return v, nil
}
