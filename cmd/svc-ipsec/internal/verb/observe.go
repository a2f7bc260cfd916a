package verb

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/endpoint"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// daemonStatus is what a daemon reported. It is empty if there is no daemon. If the installed tools are not compatible
// with the daemon, it has only build and the tunnels that the kernel lists.
type daemonStatus struct {
	conns   map[string]libreswan.Conn
	up      map[string]libreswan.Traffic
	orphans []string         // conns with an orphaned Child SA; they are not in up
	build   *libreswan.Build // nil: the daemon runs the installed version

	invocation string // systemd's invocation ID of the unit; "" if unknown
}

// observe queries the daemon of a container, unless it has no wanted connection.
func observe(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon,
	namespace string,
) (*daemonStatus, error) {
	if len(wanted) == 0 {
		return new(daemonStatus), nil
	}
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil {
		return nil, err
	}
	return observeUnit(ctx, wanted, d, u, namespace)
}

// observeAny is like observe, for a container that may or may not have a running daemon: a daemon that cannot be
// queried is no error.
func observeAny(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon,
	namespace string,
) (*daemonStatus, error) {
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil {
		return nil, err
	}
	if status, err := observeUnit(ctx, wanted, d, u, namespace); err == nil {
		return status, nil
	}
	return new(daemonStatus), ctx.Err()
}

// observeUnit is like observe, for a caller that has just read the daemon's unit.
func observeUnit(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon, u unit.Details,
	namespace string,
) (*daemonStatus, error) {
	build, err := d.OutdatedIn(ctx, u)
	if err != nil {
		return nil, err
	}
	if !build.Compatible() {
		up, err := upInKernel(wanted, namespace)
		return &daemonStatus{up: up, build: build}, err
	}
	answer, err := d.Control().Query(ctx)
	if err != nil {
		return nil, err
	}
	status := statusOf(answer, build)
	status.invocation = u.Invocation
	return status, nil
}

// upInKernel returns the tunnels that the kernel has, by conn. It is used when the daemon cannot be queried.
func upInKernel(wanted []*config.Connection, path string) (map[string]libreswan.Traffic, error) {
	namespace, err := network.Open(path)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	tunnels, err := namespace.XFRM().Tunnels()
	if err != nil {
		return nil, err
	}
	up := map[string]libreswan.Traffic{}
	for _, connection := range wanted {
		for _, pair := range connection.Pairs() {
			if tunnel, ok := tunnels[config.Networks{Local: pair.Local, Peer: pair.Peer}]; ok {
				up[pair.Conn] = libreswan.Traffic(tunnel)
			}
		}
	}
	return up, nil
}

// statusOf returns the status of a daemon from its answer.
func statusOf(answer libreswan.Answer, build *libreswan.Build) *daemonStatus {
	status := &daemonStatus{conns: answer.Conns, up: answer.Traffic, build: build}
	for name, conn := range answer.Conns {
		if !conn.Orphaned {
			continue
		}
		delete(status.up, name)
		// A negotiation may be about to replace the orphaned Child SA, and terminating the conn would end that too.
		if !conn.Negotiating {
			status.orphans = append(status.orphans, name)
		}
	}
	return status
}

// plain returns the part of the status that package endpoint decides by.
func (status *daemonStatus) plain() endpoint.Status {
	plain := endpoint.Status{Conns: map[string]endpoint.Loaded{}, Up: map[string]bool{}, Orphans: status.orphans}
	for name, conn := range status.conns {
		plain.Conns[name] = endpoint.Loaded{Unoriented: conn.Unoriented, Negotiating: conn.Negotiating, IKE: conn.IKE}
	}
	for name := range status.up {
		plain.Up[name] = true
	}
	return plain
}

// removeMismatched removes tunnels whose networks differ from the wanted pair of the same conn name. They belong to an
// edit that failed after it was loaded.
func (status *daemonStatus) removeMismatched(wanted []*config.Connection, loaded map[string]config.Networks) {
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if has, ok := loaded[pair.Conn]; ok && !pair.Host &&
				has != (config.Networks{Local: pair.Local, Peer: pair.Peer}) {
				delete(status.up, pair.Conn)
			}
		}
	}
}
