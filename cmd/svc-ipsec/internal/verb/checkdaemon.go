package verb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/broken"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// checkDaemon returns the status of the daemon. It returns an error if the daemon does not run, does not answer, or has
// lost a conn that it had accepted. A daemon that systemd has just restarted gets restartWait to start and to load its
// conns.
func checkDaemon(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon,
	recorded *state.State, loaded map[string][]byte,
) (*daemonStatus, error) {
	namespace := recorded.Attachment.Namespace
	if len(wanted) == 0 {
		return new(daemonStatus), nil
	}
	for clock := busyclock.Start(); ; {
		u, err := d.Bus.Show(ctx, d.Unit())
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
		if _, err := os.Stat(namespace); namespace != "" && errors.Is(err, fs.ErrNotExist) {
			return nil, fault // it was removed meanwhile, so the daemon can never be asked again
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
	return cni.Fail(spec.CodeAgain,
		"the unit runs, and its daemon cannot be asked (if that lasts: svc-supervisor restart %s): %w", d.Owner.Name,
		fault)
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
