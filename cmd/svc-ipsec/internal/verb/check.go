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

// restartWait is how long CHECK waits for a daemon that systemd is restarting.
const restartWait = 4 * time.Second

// Check compares the container with what ADD configured, and prints its health. It compares with the configuration that
// ADD recorded in the container's directory, because a runtime may lose or change its own copy. While a reconfigure is
// incomplete, it compares only what the reconfigure does not change.
func (e *Executable) Check(args *skel.CmdArgs) error {
	ctx, cancel := e.budget(verbLimit)
	defer cancel()
	owner, err := identify(args)
	if err != nil {
		return err
	}
	dir, err := state.Find(ctx, e.Root, owner.Name, lockLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(spec.CodeUnknownContainer, "check %s: no such container", owner.Name)
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

// checkError returns the error with a code: codeBroken if the container differs from its configuration, CodeAgain if
// the state of the container is unknown.
func checkError(err error) error {
	switch {
	case errors.As(err, new(*codedError)):
		return err
	case broken.Is(err), errors.Is(err, network.ErrNameTaken),
		errors.Is(err, libreswan.ErrNotRunning), errors.Is(err, libreswan.ErrNoAnswer):
		return fail(codeBroken, "%w", err)
	default:
		return fail(spec.CodeAgain, "%w", err)
	}
}

func (e *Executable) check(ctx context.Context, args *skel.CmdArgs, owner spec.Owner,
	dir *state.Directory,
) (*spec.Health, error) {
	recorded, err := dir.Load()
	if err != nil {
		return nil, err
	}
	if recorded == nil || recorded.Attachment.Owner(owner.Name) != owner || recorded.Attachment.Interface != args.IfName {
		return nil, fail(spec.CodeUnknownContainer, "the container of that name is not this one")
	}
	a := &recorded.Attachment
	if recorded.Configuration == nil {
		return nil, broken.Errorf("configuration in %s: gone", dir.Path)
	}
	r, err := decode(&skel.CmdArgs{ContainerID: args.ContainerID, IfName: a.Interface, StdinData: recorded.Configuration})
	if err != nil {
		return nil, err
	}
	r.configuration.Found = recorded.Found.Config()
	tools, _ := libreswan.FindTools()
	d := e.daemon(tools, owner, dir.Path, recorded)
	loaded, err := d.Loaded()
	if err != nil {
		return nil, err
	}
	r.configuration.Resolve(r.prepareResolve(loaded, recorded.Chosen))
	plan, err := r.plan()
	if err != nil {
		return nil, err
	}
	daemonRuns := true
	if incomplete := recorded.Incomplete; incomplete != nil {
		plan, daemonRuns = &incomplete.Network, incomplete.Daemon
	}
	guardFault, err := e.checkNetwork(r, plan, recorded, args.Netns)
	if err != nil {
		return nil, err
	}
	wanted := r.configuration.Wanted()
	var status *daemonStatus
	if daemonRuns {
		status, err = e.checkDaemon(ctx, wanted, d, recorded, loaded)
	} else {
		status, err = observeAny(ctx, wanted, d, a.Namespace)
	}
	if err != nil {
		return nil, err
	}
	status.removeMismatched(wanted, r.configuration.Loaded)
	if err := recordTraffic(dir, recorded, status, time.Now()); err != nil {
		return nil, err
	}
	h := health(ctx, r.configuration, d, status, recorded.Refused, recorded, true)
	stalled := againForStalled(connectionsOf(e.Root, wanted, status), recorded.Retry, time.Now())
	h.Again = earliest(completion(recorded), guardFault, h.Again, stalled)
	return h, nil
}

// checkNetwork compares the network with the plan. The result is a request for ADD if a guard or a sysctl has to be set
// again.
func (e *Executable) checkNetwork(r *request, plan *network.Plan, recorded *state.State,
	path string,
) (*spec.Again, error) {
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
	if wrong != "" { // ADD corrects it in place
		again = &spec.Again{Reason: wrong}
	}
	found, err := namespace.CheckGuard(a.Guard, plan.Guard, recorded.GuardDigest)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Guard == network.GuardTable && found == network.GuardMissing:
		return nil, broken.Errorf("the guard against packets in clear is gone")
	case a.Guard == network.GuardPolicies && found != network.GuardComplete:
		// Libreswan 5 flushes policies of this kind whenever systemd restarts it. The tunnels work, so this is no reason to
		// remove the container.
		again = &spec.Again{Reason: "the guard's policies are gone"}
	case a.Guard == network.GuardTable && found == network.GuardChanged:
		again = &spec.Again{Reason: "the guard against packets in clear was changed"}
	case recorded.GuardRules != string(plan.Guard.Rules()): // set by an earlier version, or by an ADD that failed
		again = &spec.Again{Reason: "the guard against packets in clear is not the one of this configuration"}
	}
	if r.chained {
		return again, nil
	}
	host, err := network.FindHostLink(r.owner)
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
	// The same lookup as in ADD, because the name may be an alternative name.
	bridge, err := network.FindBridge(plan.Bridge)
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

// checkDaemon returns the status of the daemon. It returns an error if the daemon does not run, does not answer, or has
// lost a conn that it had accepted. A daemon that systemd has just restarted gets restartWait to start and to load its
// conns.
func (e *Executable) checkDaemon(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon,
	recorded *state.State, loaded map[string][]byte,
) (*daemonStatus, error) {
	namespace := recorded.Attachment.Namespace
	if len(wanted) == 0 {
		return new(daemonStatus), nil
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
			var status *daemonStatus
			if status, fault = complete(ctx, wanted, d, u, namespace, loaded); fault == nil {
				return status, nil
			}
		}
		if ctx.Err() != nil { // the daemon may still start
			return nil, fmt.Errorf("wait for the daemon: %w", context.Cause(ctx))
		}
		if clock.Elapsed() > restartWait {
			if u.Running() && (errors.Is(fault, libreswan.ErrNotRunning) || errors.Is(fault, libreswan.ErrNoAnswer)) {
				return nil, queryError(wanted, d, recorded, fault)
			}
			return nil, fault
		}
		time.Sleep(answerPause)
	}
}

// queryError returns the error for a daemon that runs but cannot be queried. The error means a broken container only if
// the kernel has no tunnel of the daemon and it is known which connections the daemon should have. Otherwise a working
// container could be removed: something else may have replaced the control socket, or whack may hang. systemd itself
// ends a daemon that hangs (WatchdogSec).
func queryError(wanted []*config.Connection, d *libreswan.Daemon, recorded *state.State, fault error) error {
	up, err := upInKernel(wanted, recorded.Attachment.Namespace)
	if err == nil && len(up) == 0 && recorded.Incomplete == nil {
		return fault
	}
	return fail(spec.CodeAgain,
		"the unit runs, and its daemon cannot be asked (if that lasts: svc-supervisor restart %s): %w", d.Owner.Name, fault)
}

// complete returns the status of a daemon that has all conns that it had accepted. A daemon of another Libreswan
// version cannot be queried; it counts as complete, and the health message names the version.
func complete(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon, u unit.Details, namespace string,
	loaded map[string][]byte,
) (*daemonStatus, error) {
	status, err := observeUnit(ctx, wanted, d, u, namespace)
	if err != nil || status.build != nil && !status.build.Compatible() {
		return status, err
	}
	for conn := range loaded {
		if _, ok := status.conns[conn]; !ok {
			return nil, broken.Errorf("the daemon has lost conn %s", conn)
		}
	}
	return status, nil
}
