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
)

// Health messages of a container that is healthy and has no daemon.
const (
	idleNoExternalIP  = "no external IP: nothing to run"
	idleNoConnections = "no connections: nothing to run"
	idleAllDown       = "all connections have administrative state down: nothing to run"
	idleAllRefused    = "no connection can run: see their reasons"
)

// incompleteMessage is the health message of a container whose reconfigure is neither complete nor undone.
const incompleteMessage = "a reconfigure is incomplete, the next ADD completes it"

// health returns the health of a container. A tunnel that is down does not make the container unhealthy. withReasons
// also searches the journal for the reasons of connections that are down.
func health(ctx context.Context, c *config.Configuration, d *libreswan.Daemon, status *daemonStatus,
	refused map[string]string, s *state.State, withReasons bool,
) *spec.Health {
	now := time.Now()
	h := &spec.Health{
		Code: spec.Running, Again: earliest(againForNames(c.Found, now), againForRefused(refused, c.Found.At, now)),
	}
	wanted := c.Wanted()
	messages := editMessages(s)
	if len(wanted) == 0 {
		messages = append(messages, idle(c))
	} else {
		messages = append(messages, unsupportedMessages(filepath.Dir(d.Dir), wanted)...)
		messages = append(messages, isolationMessages(s, d.Owner.Name)...)
	}
	messages = append(messages, staleInputs(c.Found)...)
	if s.Incomplete != nil {
		messages = append(messages, incompleteMessage)
	}
	switch s.Attachment.Guard {
	case network.GuardPolicies:
		messages = append(messages, "nftables cannot guard against packets in clear here: XFRM policies do")
	case network.GuardNone:
		messages = append(messages, "packets for peers leave in clear while a tunnel is down: "+
			s.Attachment.GuardReason)
	}
	if status.build != nil {
		messages = append(messages, outdated(status.build, d.Owner.Name))
	}
	h.Message = strings.Join(messages, "; ")
	traffic := updateTraffic(s.Traffic, status.up, now)
	var reasons map[string]string
	for i := range c.Connections {
		connection := &c.Connections[i]
		health := connectionHealth(connection, status, refused, traffic, now)
		if health.Status == spec.Down && health.Reason == "" && withReasons {
			if reasons == nil {
				reasons = d.Journal().Failures(ctx, status.invocation)
			}
			health.Reason = failureReason(connection, reasons)
			if health.Reason == "" && connection.ResponseOnly {
				health.Reason = waitsForPeer(health.Pairs)
			}
		}
		health = withEdit(health, s.RefusedEdits[connection.Place()])
		h.Connections = append(h.Connections, health)
	}
	return h
}

// outdated returns the message about a daemon that still runs the version before an upgrade of the package.
func outdated(b *libreswan.Build, name spec.Name) string {
	text := fmt.Sprintf("the daemon runs Libreswan %s, and %s is installed now", b.Running, b.Installed)
	switch {
	case b.Installed == "?":
		return fmt.Sprintf("the daemon runs Libreswan %s, and no usable Libreswan is installed; "+
			"install it before restarting this container", b.Running)
	case b.Running == b.Installed:
		text = "the daemon runs a former build of Libreswan " + b.Running
	}
	return fmt.Sprintf("%s: svc-supervisor restart %s replaces it, its tunnels are down meanwhile", text, name)
}

func idle(c *config.Configuration) string {
	switch {
	case len(c.Connections) == 0:
		return idleNoConnections
	case len(c.ExternalIPs) == 0:
		return idleNoExternalIP
	case !slices.ContainsFunc(c.Connections, func(c config.Connection) bool { return c.Up }):
		return idleAllDown
	default:
		return idleAllRefused
	}
}

// isolationMessages lists the protections that the daemon lacks (see SECURITY.md).
func isolationMessages(s *state.State, name spec.Name) []string {
	switch {
	case s.View == "":
		return []string{fmt.Sprintf("the daemon was started by svc-ipsec 0.1.0 and runs as root: "+
			"svc-supervisor restart %s gives it a user of its own, its tunnels are down meanwhile", name)}
	case !s.UserNamespace:
		return []string{"the daemon has CAP_NET_ADMIN on the host, " +
			"because no user namespace of its own owns the network namespace"}
	}
	return nil
}

// unsupportedMessages lists the IPsec protocols of the wanted connections that the kernel does not support. root is the
// directory with the cached results.
func unsupportedMessages(root string, wanted []*config.Connection) []string {
	var messages []string
	for _, c := range wanted {
		message := network.KernelLacks(root, c.IPsec.Protocol, c.PeerAddress.Is4())
		if message != "" && !slices.Contains(messages, message) {
			messages = append(messages, message)
		}
	}
	return messages
}

// connectionHealth returns the health of one connection. It is active only if each of its pairs has an installed Child
// SA. An active connection also has a reason if it sends packets and receives none.
func connectionHealth(c *config.Connection, status *daemonStatus, refused map[string]string,
	traffic map[string]state.Traffic, now time.Time,
) spec.Connection {
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
		if counted, ok := status.up[pair.Conn]; ok {
			p.Status, p.BytesIn, p.BytesOut = spec.Active, counted.In, counted.Out
			p.Algorithms = status.conns[pair.Conn].Algorithms
			if since := counted.Since; !since.IsZero() && (state.Since == nil || since.After(*state.Since)) {
				state.Since = &since
			}
			if since, ok := receivesNothing(traffic[pair.Conn], counted, now); ok && note == "" {
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

// waitsForPeer returns the reason of a response-only connection that is down and for which the daemon has logged no
// failure. Libreswan accepts one pair of networks per Child SA, whatever the peer proposes for it.
func waitsForPeer(pairs []spec.Pair) string {
	down := slices.IndexFunc(pairs, func(p spec.Pair) bool { return p.Status == spec.Down })
	if down < 0 || !slices.ContainsFunc(pairs, func(p spec.Pair) bool { return p.Status == spec.Active }) {
		return "initiator is response-only, and the peer has not initiated"
	}
	return fmt.Sprintf("initiator is response-only, and the peer has initiated no Child SA for %s and %s alone: "+
		"each pair of networks needs its own",
		pairs[down].Local, pairs[down].Peer)
}

// failureReason returns the reason that the daemon logged for the first pair that has one. If pairs share an IKE SA,
// the daemon logs the reason for the conn that established it. A reason why the daemon refuses the peer's packets takes
// precedence over "no answer", because it is more specific.
func failureReason(c *config.Connection, reasons map[string]string) string {
	refused := reasons[c.PeerAddress.String()]
	for _, pair := range c.Pairs() {
		if reason := reasons[pair.Conn]; reason != "" && !(reason == libreswan.NoAnswer && refused != "") {
			return reason
		}
	}
	return refused
}
