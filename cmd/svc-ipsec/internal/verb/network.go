package verb

import (
	"bytes"
	"context"
	"log/slog"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// network brings interface, addresses, routes and guard to the plan. The guard is closed before a new peer gets a route
// and opened after an old one has lost it.
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
	return network.Join(c.request.owner, c.request.bridge(), c.bridges()...)
}

// checkInterface finds out whether the interface can be made or changed. Beside a daemon that runs none is made: it could put another
// link in the place of the one that is about to be moved to the host.
func (c *change) checkInterface(ctx context.Context) error {
	owner := c.request.owner
	switch {
	case c.plan.Chained:
		return c.checkGiven()
	case c.before == nil || c.recorded.UserID == 0:
		return nil
	}
	held, err := network.Held(owner)
	if err != nil {
		return err
	}
	unit, err := c.Bus.Show(ctx, owner.Name.Unit())
	if err != nil {
		return err
	}
	if !held && !unit.Gone() {
		return fail(spec.CodeNotInPlace, "interface %s is gone: it cannot be made again beside a daemon that runs", owner.Name)
	}
	return nil
}

// bothGuards is the guard while the network is neither the old one nor the new one. It covers what a reconfigure before this one that
// is incomplete may have made a route to.
func (c *change) bothGuards() network.Guard {
	both := c.plan.Guard
	if c.old != nil {
		both = both.Join(c.old.Guard)
	}
	if incomplete := c.recorded.Incomplete; incomplete != nil {
		both.Peers = incomplete.Peers
	}
	return both
}

// guarded reports whether the wanted guard is in place already. If so, this ADD keeps it. A guard without a digest is of a
// version that recorded none.
func (c *change) guarded() bool {
	rules, digest := string(c.plan.Guard.Rules()), c.recorded.GuardDigest
	if c.before == nil || c.recorded.GuardRules != rules || digest == "" && c.before.Guard == network.GuardTable {
		return false
	}
	if found, err := c.namespace.FindGuard(c.before.Guard, c.plan.Guard, digest); err != nil || found != network.GuardWhole {
		return false
	}
	c.attachment.Guard, c.attachment.GuardReason, c.guardRules, c.guardDigest = c.before.Guard, c.before.GuardReason, rules, digest
	return true
}

// guard puts the guard in place. Where none can be, the tunnels work all the same and the container's health says so.
func (c *change) guard(ctx context.Context, g network.Guard) error {
	// If the verb is killed after nft and before the end, the next ADD must not take the recorded guard for the one in place: with
	// the configuration edited back in between, it would leave the networks of a peer unguarded.
	if c.recorded.GuardRules != "" {
		c.recorded.GuardRules = ""
		if err := c.folder.Save(c.recorded); err != nil {
			return err
		}
	}
	c.attachment.Guard, c.attachment.GuardReason = c.namespace.SetGuard(ctx, c.tools.NFT, g)
	if reason := c.attachment.GuardReason; reason != "" {
		does := "packets in clear are blocked by XFRM policies, which are away from a restart of Libreswan 5 until the next CHECK"
		if c.attachment.Guard == network.GuardNone {
			does = "packets in clear are not blocked"
		}
		c.Log.Warn(does,
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

func (c *change) checkGiven() error {
	has, err := c.namespace.Has(c.plan.Interface, c.request.configuration.ExternalIPs)
	if err != nil {
		return err
	}
	if !has {
		return fail(7, "prevResult: interface %s does not have the addresses that it names", c.plan.Interface)
	}
	return nil
}
