package verb

import (
	"context"
	"log/slog"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/network"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// network brings interface, addresses, routes and guard to the plan. The guard is closed before a new peer gets a route
// and opened after an old one has lost it.
func (c *change) network(ctx context.Context) error {
	if c.plan.Chained {
		if err := c.checkGiven(); err != nil {
			return err
		}
	} else if err := c.interfaces(ctx); err != nil {
		return err
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
	if !guarded && c.old != nil && len(both.Peers) > len(c.plan.Guard.Peers) {
		if err := c.guard(ctx, c.plan.Guard); err != nil {
			return err
		}
	}
	if c.plan.Chained {
		return nil
	}
	before := ""
	if c.before != nil {
		before = c.before.Bridge
	}
	return network.Join(c.request.owner, c.request.bridge(), before)
}

// interfaces makes the veth pair, or finds it. Beside a daemon that runs none is made: it could put another link in the place of
// the one that is about to be moved to the host.
func (c *change) interfaces(ctx context.Context) error {
	owner := c.request.owner
	if c.before != nil && c.recorded.UserID != 0 {
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
	}
	return c.namespace.EnsureVeth(c.plan.Interface, owner)
}

// bothGuards is the guard while the network is neither the old one nor the new one.
func (c *change) bothGuards() network.Guard {
	if c.old == nil {
		return c.plan.Guard
	}
	return c.plan.Guard.Join(c.old.Guard)
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

// oldPlan is the network as the last good ADD made it, with the connections that run; nil if there is none.
func (c *change) oldPlan(loaded map[string][]byte) *network.Plan {
	if c.before == nil {
		return nil
	}
	old, err := decode(&skel.CmdArgs{ContainerID: string(c.before.ContainerID), IfName: c.before.Interface, StdinData: c.recorded.Configuration})
	if err != nil {
		return nil
	}
	old.configuration.Found, old.configuration.Loaded = c.recorded.Found.Config(), networks(loaded)
	old.configuration.Resolve(stood(loaded, c.recorded.Chosen))
	plan, err := old.plan()
	if err != nil {
		return nil
	}
	return plan
}

// restoreNetwork goes back to the old plan, in the same order.
func (c *change) restoreNetwork(ctx context.Context) error {
	if c.old == nil {
		return nil
	}
	namespace, err := network.Open(c.before.Namespace)
	if err != nil {
		return err
	}
	defer namespace.Close()
	c.namespace = namespace
	if err := c.guard(ctx, c.bothGuards()); err != nil {
		return err
	}
	if err := namespace.Apply(c.old); err != nil {
		return err
	}
	if !c.old.Chained {
		if err := network.Join(c.request.owner, c.before.Bridge, c.request.bridge()); err != nil {
			return err
		}
	}
	if err := c.guard(ctx, c.old.Guard); err != nil {
		return err
	}
	c.before.Guard, c.before.GuardReason = c.attachment.Guard, c.attachment.GuardReason
	c.recorded.GuardRules, c.recorded.GuardDigest = c.guardRules, c.guardDigest
	return c.folder.Save(c.recorded)
}
