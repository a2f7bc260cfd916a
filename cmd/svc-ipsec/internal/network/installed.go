package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/busyclock"
)

// Kinds of guard.
const (
	GuardTable    = "nftables"
	GuardPolicies = "policies" // used if the kernel has no nftables
	GuardNone     = "none"
)

// InstalledGuard is the guard that is in place in a namespace: a table of nftables, or block policies, or both.
type InstalledGuard struct {
	blocks blockPolicies
	do     inside
}

// Set installs the guard. It returns the kind of the guard, and the reason if it is not nftables or is incomplete. If
// nft fails although the table of an earlier guard exists, the kernel does have nftables, and Set returns the error and
// changes nothing. With policies instead, the rules of the earlier table would stay in effect beside them.
func (i InstalledGuard) Set(ctx context.Context, nft string, g Guard) (kind, reason string, err error) {
	failed := i.nft(ctx, nft, g.Rules())
	if failed == nil {
		if err := i.blocks.set(g.blocks(GuardTable)); err != nil {
			return GuardTable, err.Error(), nil
		}
		return GuardTable, "", nil
	}
	// If the tables cannot be listed, the kernel has no nftables.
	if earlier, err := i.hasTable(guardTable); err == nil && earlier {
		return "", "", failed
	}
	if blocked := i.blocks.set(g.blocks(GuardPolicies)); blocked != nil {
		return GuardNone, failed.Error() + "; " + blocked.Error(), nil
	}
	return GuardPolicies, failed.Error(), nil
}

// Remove removes the guard, of whichever kind. An interrupted ADD may not have recorded the kind, so known may be
// wrong or empty. An error of nft is returned only if the table exists or known is GuardTable.
func (i InstalledGuard) Remove(ctx context.Context, nft, known string) error {
	if nft != "" {
		set, err := i.hasTable(guardTable)
		if err == nil && set {
			err = i.nft(ctx, nft, fmt.Appendf(nil, "delete table inet %s\n", guardTable))
		}
		if err != nil && (set || known == GuardTable) {
			return err
		}
	}
	return i.blocks.set(nil)
}

// GuardState is the result of InstalledGuard.Check.
type GuardState int

const (
	GuardMissing GuardState = iota // no guard is in place
	GuardChanged                   // a part of the guard is missing or was changed
	GuardComplete
)

// Check compares what is in place with a guard of this kind. digest is the result of RulesDigest after the guard
// was installed; if it is empty, the rules are not compared.
func (i InstalledGuard) Check(kind string, g Guard, digest string) (GuardState, error) {
	switch kind {
	case GuardTable:
		set, err := i.hasTable(guardTable)
		if err != nil || !set {
			return GuardMissing, err
		}
		if digest != "" {
			now, err := i.RulesDigest()
			if err != nil {
				return GuardMissing, err
			}
			if now != digest {
				return GuardChanged, nil
			}
		}
	case GuardPolicies:
	default:
		return GuardMissing, nil
	}
	complete, err := i.blocks.complete(g.blocks(kind))
	if err != nil {
		return GuardMissing, err
	}
	if !complete {
		return GuardChanged, nil
	}
	return GuardComplete, nil
}

// RulesDigest returns a digest of the rules in the guard's table, without their counters.
func (i InstalledGuard) RulesDigest() (string, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
	request.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(guardTable)))
	var rules [][]byte
	err := i.do(func() (err error) {
		rules, err = dump(func() ([][]byte, error) { return request.Execute(unix.NETLINK_NETFILTER, 0) })
		return err
	})
	if err != nil {
		return "", fmt.Errorf("list rules of nftables table %s: %w", guardTable, err)
	}
	hash := sha256.New()
	for _, rule := range rules {
		if err := hashRule(hash, rule[nl.SizeofNfgenmsg:]); err != nil {
			return "", fmt.Errorf("read rules of nftables table %s: %w", guardTable, err)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// hashRule hashes the chain and the expressions of a rule.
func hashRule(hash io.Writer, rule []byte) error {
	attributes, err := nl.ParseRouteAttr(rule)
	if err != nil {
		return err
	}
	for _, attribute := range attributes {
		switch attribute.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.NFTA_RULE_CHAIN:
			fmt.Fprintf(hash, "%q", attribute.Value)
		case unix.NFTA_RULE_EXPRESSIONS:
			expressions, err := nl.ParseRouteAttr(attribute.Value)
			if err != nil {
				return err
			}
			for _, expression := range expressions {
				name, err := nl.ParseRouteAttr(expression.Value)
				if err != nil {
					return err
				}
				if len(name) > 0 && string(name[0].Value) != "counter\x00" { // the values of counters change
					fmt.Fprintf(hash, "%q", expression.Value)
				}
			}
		}
	}
	return nil
}

// hasTable reports whether nftables has a table of this name in the family inet.
func (i InstalledGuard) hasTable(name string) (bool, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
	request.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(name)))
	err := i.do(func() error {
		_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for nftables table %s: %w", name, err)
	}
	return true, nil
}

// nft runs nft with these rules in the namespace. nft is trusted, starts no programs and prints little. So it needs
// none of what package libreswan does to run a program: another user id, a process group and an output limit.
func (i InstalledGuard) nft(ctx context.Context, program string, rules []byte) error {
	ctx, cancel := busyclock.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-f", "-")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(rules)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// The program is started on the thread that has entered the namespace, and the child inherits it.
	if err := i.do(cmd.Run); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("run %s: %w: %s", program, err, first)
	}
	return nil
}
