package verb

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/state"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// networkChange changes the network of a container: interface, addresses, routes, and the guard against packets in
// clear.
type networkChange struct {
	owner      spec.Owner
	plan       *network.Plan
	old        *network.Plan // the network as the last successful ADD configured it, nil if there was none
	namespace  *network.Namespace
	record     *record
	attachment *state.Attachment // its guard is set when the guard is
	guard      guardRules
	nft        string // path of the nft program
	log        *slog.Logger
}

// guardRules identifies the guard that this ADD has installed or found in place.
type guardRules struct {
	rules  string // as text for nft
	digest string // of the rules as the kernel has them, "" if the guard is not a table
}

// apply makes interface, addresses, routes and guard match the plan. The guard covers a new peer before it gets a
// route, and an old peer until its route is removed.
func (n *networkChange) apply(ctx context.Context) error {
	if !n.plan.Chained {
		if err := n.namespace.Veth(n.owner).Ensure(n.plan.Interface); err != nil {
			return err
		}
	}
	both := n.bothGuards()
	inPlace := n.keepGuard()
	if !inPlace {
		if err := n.setGuard(ctx, both); err != nil {
			return err
		}
	}
	if err := n.namespace.Apply(n.plan); err != nil {
		return err
	}
	if !inPlace && !bytes.Equal(both.Rules(), n.plan.Guard.Rules()) {
		if err := n.setGuard(ctx, n.plan.Guard); err != nil {
			return err
		}
	}
	if n.plan.Chained {
		return nil
	}
	if err := network.AttachHostLink(n.owner, n.attachment.Bridge, n.record.bridges()...); err != nil {
		return err
	}
	return n.namespace.LimitMTU(n.plan.Interface, n.owner)
}

// check returns an error if the interface cannot be created or changed. An interface is not created while a daemon
// runs, because the daemon has privileges in the namespace and could replace the link.
func (n *networkChange) check(ctx context.Context, bus *unit.Bus, external []netip.Addr) error {
	switch {
	case n.plan.Chained:
		return n.checkPrevResult(external)
	case n.record.isNew() || n.record.state.UserID == 0:
		return nil
	}
	exists, err := network.HasHostLink(n.owner)
	if err != nil {
		return err
	}
	daemon, err := bus.Show(ctx, n.owner.Name.Unit())
	if err != nil {
		return err
	}
	if !exists && !daemon.Gone() {
		return cni.Fail(spec.CodeNotInPlace, "interface %s is gone and cannot be created while the daemon runs",
			n.owner.Name)
	}
	return nil
}

func (n *networkChange) checkPrevResult(external []netip.Addr) error {
	has, err := n.namespace.HasAddresses(n.plan.Interface, external)
	if err != nil {
		return err
	}
	if !has {
		return cni.Fail(7, "prevResult: interface %s does not have the addresses that it names", n.plan.Interface)
	}
	return nil
}

// bothGuards returns the guard during the change from the old network to the new one. It also covers every route that
// an earlier, incomplete reconfigure may have made.
func (n *networkChange) bothGuards() network.Guard {
	both := n.plan.Guard
	if n.old != nil {
		both = both.Union(n.old.Guard)
	}
	if incomplete := n.record.state.Incomplete; incomplete != nil {
		both.Peers = incomplete.Peers
	}
	return both
}

// keepGuard reports whether the wanted guard is already in place. This ADD then keeps it. A recorded guard without a
// digest was set by a version that recorded none.
func (n *networkChange) keepGuard() bool {
	rules, before, s := string(n.plan.Guard.Rules()), n.record.before, n.record.state
	if before == nil || s.GuardRules != rules || s.GuardDigest == "" && before.Guard == network.GuardTable {
		return false
	}
	found, err := n.namespace.Guard().Check(before.Guard, n.plan.Guard, s.GuardDigest)
	if err != nil || found != network.GuardComplete {
		return false
	}
	n.attachment.Guard, n.attachment.GuardReason = before.Guard, before.GuardReason
	n.guard = guardRules{rules, s.GuardDigest}
	return true
}

// setGuard installs the guard. If the host supports none, the tunnels work without it and the health message says so.
func (n *networkChange) setGuard(ctx context.Context, g network.Guard) error {
	// The recorded guard is removed from state.json first. Otherwise, if the verb is killed after nft and the
	// configuration is edited back, the next ADD would find the recorded guard equal to the wanted one, and the
	// networks of a peer would stay unguarded.
	if n.record.state.GuardRules != "" {
		n.record.state.GuardRules = ""
		if err := n.record.save(); err != nil {
			return err
		}
	}
	kind, reason, err := n.namespace.Guard().Set(ctx, n.nft, g)
	if err != nil {
		return fmt.Errorf("guard against packets in clear: %w", err)
	}
	n.attachment.Guard, n.attachment.GuardReason = kind, reason
	if reason != "" {
		message := "packets in clear are blocked only by XFRM policies, " +
			"which a restart of Libreswan 5 removes until the next CHECK"
		if n.attachment.Guard == network.GuardNone {
			message = "packets in clear are not blocked"
		}
		n.log.Warn(message, slog.String("container", string(n.owner.Name)), slog.String("reason", reason))
	}
	n.guard = guardRules{rules: string(g.Rules())}
	if n.attachment.Guard == network.GuardTable {
		digest, err := n.namespace.Guard().RulesDigest()
		if err != nil {
			return err
		}
		n.guard.digest = digest
	}
	return nil
}
