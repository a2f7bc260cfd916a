package verb

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/config"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/libreswan"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// What a healthy container without a daemon says of itself.
const (
	saysNoExternalIP  = "no external IP: nothing to run"
	saysNoConnections = "no connections: nothing to run"
	saysAllDown       = "all connections have administrative state down: nothing to run"
	saysAllRefused    = "no connection can run: see their reasons"
)

// view is what was asked of a daemon: nothing, if there is none, or none that the installed tools can talk to.
type view struct {
	conns   map[string]libreswan.Conn
	up      map[string]libreswan.Traffic
	orphans []string         // conns whose tunnel stands and is dead: they are not up
	build   *libreswan.Build // nil: the daemon is of the installed one

	invocation string // of its unit; "" if it is not known
}

// see asks the daemon of a container that has something to run.
func see(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon, namespace string) (*view, error) {
	if len(wanted) == 0 {
		return new(view), nil
	}
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil {
		return nil, err
	}
	return seeUnit(ctx, wanted, d, u, namespace)
}

// seeAny is see for a container of which it is not known whether a daemon runs.
func seeAny(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon, namespace string) (*view, error) {
	u, err := d.Bus.Show(ctx, d.Unit())
	if err != nil {
		return nil, err
	}
	if v, err := seeUnit(ctx, wanted, d, u, namespace); err == nil {
		return v, nil
	}
	return new(view), ctx.Err()
}

// seeUnit is see for a daemon whose unit was shown a moment ago.
func seeUnit(ctx context.Context, wanted []*config.Connection, d *libreswan.Daemon, u unit.Details, namespace string) (*view, error) {
	build, err := d.OutdatedIn(ctx, u)
	if err != nil {
		return nil, err
	}
	if !build.Compatible() {
		up, err := upInKernel(wanted, namespace)
		return &view{up: up, build: build}, err
	}
	answer, err := d.Ask(ctx)
	if err != nil {
		return nil, err
	}
	v := viewOf(answer, build)
	v.invocation = u.Invocation
	return v, nil
}

// upInKernel finds out from the kernel which connections have a tunnel, where the daemon cannot be asked.
func upInKernel(wanted []*config.Connection, path string) (map[string]libreswan.Traffic, error) {
	namespace, err := network.Open(path)
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	tunnels, err := namespace.Tunnels()
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

// viewOf is the view of a daemon that has answered.
func viewOf(answer libreswan.Answer, build *libreswan.Build) *view {
	v := &view{conns: answer.Conns, up: answer.Traffic, build: build}
	for name, conn := range answer.Conns {
		if !conn.Orphaned {
			continue
		}
		delete(v.up, name)
		if !conn.Negotiating { // else what takes its place is on its way, and would be taken down with it
			v.orphans = append(v.orphans, name)
		}
	}
	return v
}

// only forgets the tunnels that join other networks than the wanted pair of their name: those of an edit that failed later.
func (v *view) only(wanted []*config.Connection, loaded map[string]config.Networks) {
	for _, c := range wanted {
		for _, pair := range c.Pairs() {
			if has, ok := loaded[pair.Conn]; ok && !pair.Host && has != (config.Networks{Local: pair.Local, Peer: pair.Peer}) {
				delete(v.up, pair.Conn)
			}
		}
	}
}

// health says how a container does. A tunnel that is not up is no failure of the container.
func health(ctx context.Context, c *config.Configuration, d *libreswan.Daemon, v *view, refused map[string]string, s *state.State, why bool) *spec.Health {
	now := time.Now()
	h := &spec.Health{Code: spec.Running, Again: soonest(nextLook(c.Found, now), nextTry(refused, c.Found.At, now))}
	wanted := c.Wanted()
	messages := editMessages(s)
	if len(wanted) == 0 {
		messages = append(messages, idle(c))
	} else {
		messages = append(messages, lacks(filepath.Dir(d.Folder), wanted)...)
		messages = append(messages, lessIsolated(s, d.Owner.Name)...)
	}
	messages = append(messages, lastKnown(c.Found)...)
	if s.Incomplete != nil {
		messages = append(messages, incompleteMessage)
	}
	switch s.Attachment.Guard {
	case network.GuardPolicies:
		messages = append(messages, "nftables cannot guard against packets in clear here: XFRM policies do")
	case network.GuardNone:
		messages = append(messages, "packets for peers leave in clear while a tunnel is down: "+s.Attachment.GuardReason)
	}
	if v.build != nil {
		messages = append(messages, outdated(v.build, d.Owner.Name))
	}
	h.Message = strings.Join(messages, "; ")
	traffic := received(s.Traffic, v.up, now)
	var reasons map[string]string
	for i := range c.Connections {
		connection := &c.Connections[i]
		health := describe(connection, v, refused, traffic, now)
		if health.Status == spec.Down && health.Reason == "" && why {
			if reasons == nil {
				reasons = d.Failures(ctx, v.invocation)
			}
			health.Reason = reasonOf(connection, reasons)
			if health.Reason == "" && connection.ResponseOnly {
				health.Reason = waitsForPeer(health.Pairs)
			}
		}
		health = withEdit(health, s.Edits[connection.Place()])
		h.Connections = append(h.Connections, health)
	}
	return h
}

// outdated says what to do about a daemon that an upgrade of the package left running.
func outdated(b *libreswan.Build, name spec.Name) string {
	text := fmt.Sprintf("the daemon runs Libreswan %s, and %s is installed by now", b.Running, b.Installed)
	switch {
	case b.Installed == "?":
		return fmt.Sprintf("the daemon runs Libreswan %s, and there is none that works on this host now: install it, and restart nothing before", b.Running)
	case b.Running == b.Installed:
		text = "the daemon runs a former build of Libreswan " + b.Running
	}
	return fmt.Sprintf("%s: svc-supervisor restart %s replaces it, its tunnels are down meanwhile", text, name)
}

func idle(c *config.Configuration) string {
	switch {
	case len(c.Connections) == 0:
		return saysNoConnections
	case len(c.ExternalIPs) == 0:
		return saysNoExternalIP
	case !slices.ContainsFunc(c.Connections, func(c config.Connection) bool { return c.Up }):
		return saysAllDown
	default:
		return saysAllRefused
	}
}

// lessIsolated says which protection the daemon does not have (see SECURITY.md).
func lessIsolated(s *state.State, name spec.Name) []string {
	switch {
	case s.View == "":
		return []string{fmt.Sprintf("the daemon was started by svc-ipsec 0.1.0 and runs as root: svc-supervisor restart %s gives it a user of its own, its tunnels are down meanwhile", name)}
	case !s.UserNamespace:
		return []string{"the daemon has CAP_NET_ADMIN on the host, because no user namespace of its own owns the network namespace"}
	}
	return nil
}

// lacks says what the kernel cannot carry of what is wanted.
func lacks(root string, wanted []*config.Connection) []string {
	var messages []string
	for _, c := range wanted {
		message := network.KernelLacks(root, c.IPsec.Protocol, c.PeerAddress.Is4())
		if message != "" && !slices.Contains(messages, message) {
			messages = append(messages, message)
		}
	}
	return messages
}

// describe says how one connection does: active only if each of its pairs has an installed Child SA.
// One that sends and receives nothing has a reason, too.
func describe(c *config.Connection, v *view, refused map[string]string, traffic map[string]state.Traffic, now time.Time) spec.Connection {
	state := spec.Connection{ID: c.ID, Name: c.Name, Status: spec.Down}
	if c.PeerAddress.IsValid() {
		state.Peer = c.PeerAddress.String()
	}
	switch {
	case c.Refused != nil:
		state.Reason = c.Refused.Error()
		return state
	case !c.Up:
		state.Reason, state.Disabled = "adminStateUp is false", true
		return state
	}
	state.Status = spec.Active
	note, pairs := "", c.Pairs()
	for _, pair := range pairs {
		p := spec.Pair{Local: pair.Local.String(), Peer: pair.Peer.String(), Status: spec.Down}
		if counted, ok := v.up[pair.Conn]; ok {
			p.Status, p.BytesIn, p.BytesOut = spec.Active, counted.In, counted.Out
			p.Algorithms = v.conns[pair.Conn].Algorithms
			if since := counted.Since; !since.IsZero() && (state.Since == nil || since.After(*state.Since)) {
				state.Since = &since
			}
			if since, ok := quiet(traffic[pair.Conn], counted, now); ok && note == "" {
				note = "no packets received since " + since.Format(time.RFC3339)
				if len(pairs) > 1 {
					note += fmt.Sprintf(" from %s to %s", pair.Peer, pair.Local)
				}
			}
		} else {
			state.Status = spec.Down
			if reason, ok := refused[pair.Conn]; ok && state.Reason == "" {
				state.Reason = reason
			}
		}
		state.Pairs = append(state.Pairs, p)
	}
	if state.Status == spec.Down {
		state.Since = nil
	} else {
		state.Reason = note
	}
	return state
}

// waitsForPeer is the reason of a response-only connection of which the daemon has logged no failure. Libreswan puts one pair of networks into
// a Child SA, whatever the peer proposes for it.
func waitsForPeer(pairs []spec.Pair) string {
	down := slices.IndexFunc(pairs, func(p spec.Pair) bool { return p.Status == spec.Down })
	if down < 0 || !slices.ContainsFunc(pairs, func(p spec.Pair) bool { return p.Status == spec.Active }) {
		return "initiator is response-only, and the peer has not initiated"
	}
	return fmt.Sprintf("initiator is response-only, and the peer has initiated no Child SA for %s and %s alone: each pair of networks needs its own",
		pairs[down].Local, pairs[down].Peer)
}

// reasonOf takes the daemon's word for the first pair that is down; for pairs that share an IKE SA it is said of the one
// that made it. That the daemon refuses the peer's packets says more than that the peer does not answer.
func reasonOf(c *config.Connection, reasons map[string]string) string {
	refused := reasons[c.PeerAddress.String()]
	for _, pair := range c.Pairs() {
		if reason := reasons[pair.Conn]; reason != "" && !(reason == libreswan.NoAnswer && refused != "") {
			return reason
		}
	}
	return refused
}
