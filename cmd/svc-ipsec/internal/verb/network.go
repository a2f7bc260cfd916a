package verb

import (
	"bytes"
	"context"
	"log/slog"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// network makes interface, addresses, routes and guard match the plan. The guard covers a new peer before it gets a
// route, and an old peer until its route is removed.
func (c *change) network(ctx context.Context) error {
	if !c.plan.Chained {
		if err := c.namespace.EnsureVeth(c.plan.Interface, c.request.owner); err != nil {
			return err
		}
	}
	both := c.bothGuards()
	guarded := c.guarded()
	if !guarded {
		if err := c.guard(ctx, both); err != nil {
			return err
		}
	}
	if err := c.namespace.Apply(c.plan); err != nil {
		return err
	}
	if !guarded && !bytes.Equal(both.Rules(), c.plan.Guard.Rules()) {
		if err := c.guard(ctx, c.plan.Guard); err != nil {
			return err
		}
	}
	if c.plan.Chained {
		return nil
	}
	return network.AttachHostLink(c.request.owner, c.request.bridge(), c.bridges()...)
}

// checkInterface returns an error if the interface cannot be created or changed. It is not created while a daemon runs,
// because that daemon could replace the link before it is moved to the host.
func (c *change) checkInterface(ctx context.Context) error {
	owner := c.request.owner
	switch {
	case c.plan.Chained:
		return c.checkPrevResult()
	case c.before == nil || c.recorded.UserID == 0:
		return nil
	}
	exists, err := network.HasHostLink(owner)
	if err != nil {
		return err
	}
	unit, err := c.Bus.Show(ctx, owner.Name.Unit())
	if err != nil {
		return err
	}
	if !exists && !unit.Gone() {
		return fail(spec.CodeNotInPlace, "interface %s is gone and cannot be created while the daemon runs", owner.Name)
	}
	return nil
}

// bothGuards returns the guard during the change from the old network to the new one. It also covers every route that
// an earlier, incomplete reconfigure may have made.
func (c *change) bothGuards() network.Guard {
	both := c.plan.Guard
	if c.old != nil {
		both = both.Union(c.old.Guard)
	}
	if incomplete := c.recorded.Incomplete; incomplete != nil {
		both.Peers = incomplete.Peers
	}
	return both
}

// guarded reports whether the wanted guard is already in place. This ADD then keeps it. A recorded guard without a
// digest was set by a version that recorded none.
func (c *change) guarded() bool {
	rules, digest := string(c.plan.Guard.Rules()), c.recorded.GuardDigest
	if c.before == nil || c.recorded.GuardRules != rules || digest == "" && c.before.Guard == network.GuardTable {
		return false
	}
	found, err := c.namespace.CheckGuard(c.before.Guard, c.plan.Guard, digest)
	if err != nil || found != network.GuardComplete {
		return false
	}
	c.attachment.Guard, c.attachment.GuardReason = c.before.Guard, c.before.GuardReason
	c.guardRules, c.guardDigest = rules, digest
	return true
}

// guard installs the guard. If the host supports none, the tunnels work without it and the health message says so.
func (c *change) guard(ctx context.Context, g network.Guard) error {
	// The recorded guard is removed from state.json first. Otherwise, if the verb is killed after nft and the
	// configuration is edited back, the next ADD would find the recorded guard equal to the wanted one, and the networks
	// of a peer would stay unguarded.
	if c.recorded.GuardRules != "" {
		c.recorded.GuardRules = ""
		if err := c.dir.Save(c.recorded); err != nil {
			return err
		}
	}
	c.attachment.Guard, c.attachment.GuardReason = c.namespace.SetGuard(ctx, c.tools.NFT, g)
	if reason := c.attachment.GuardReason; reason != "" {
		message := "packets in clear are blocked only by XFRM policies, " +
			"which a restart of Libreswan 5 removes until the next CHECK"
		if c.attachment.Guard == network.GuardNone {
			message = "packets in clear are not blocked"
		}
		c.Log.Warn(message,
			slog.String("container", string(c.request.owner.Name)), slog.String("reason", reason))
	}
	c.guardRules, c.guardDigest = string(g.Rules()), ""
	if c.attachment.Guard == network.GuardTable {
		digest, err := c.namespace.RulesDigest()
		if err != nil {
			return err
		}
		c.guardDigest = digest
	}
	return nil
}

func (c *change) checkPrevResult() error {
	has, err := c.namespace.HasAddresses(c.plan.Interface, c.request.configuration.ExternalIPs)
	if err != nil {
		return err
	}
	if !has {
		return fail(7, "prevResult: interface %s does not have the addresses that it names", c.plan.Interface)
	}
	return nil
}
