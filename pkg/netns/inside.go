package netns

import (
	"fmt"
	"os"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// aliasIn returns the link alias of lo in an open network namespace.
func aliasIn(file *os.File) (string, error) {
	namespace, err := ns.GetNS(descriptorPath(int(file.Fd())))
	if err != nil {
		return "", err
	}
	defer namespace.Close()
	return readAlias(namespace)
}

// readAlias returns the link alias of lo in the namespace. ns.NetNS.Do runs on a locked OS thread, which ends if it
// cannot return to its original namespace, so no other goroutine ever runs in the container's namespace.
func readAlias(namespace ns.NetNS) (string, error) {
	var alias string
	err := namespace.Do(func(ns.NetNS) error {
		return withNetlink(func(handle *netlink.Handle) error {
			lo, err := handle.LinkByName("lo")
			if err == nil {
				alias = lo.Attrs().Alias
			}
			return err
		})
	})
	if err != nil {
		return "", fmt.Errorf("alias of lo: %w", err)
	}
	return alias, nil
}

// newTagged makes a network namespace without a name, sets the owner tag as the link alias of its lo and brings lo up.
// The namespace exists until the returned value is closed, unless it gets a name before. With a user id other than 0 it
// is owned by a user namespace of that user (see newOwned).
func newTagged(owner spec.Owner, user uint32) (ns.NetNS, error) {
	namespace, err := newUntagged(user)
	if err != nil {
		return nil, err
	}
	err = namespace.Do(func(ns.NetNS) error {
		return withNetlink(func(handle *netlink.Handle) error {
			lo, err := handle.LinkByName("lo")
			if err != nil {
				return err
			}
			if err := handle.LinkSetAlias(lo, owner.String()); err != nil {
				return err
			}
			return handle.LinkSetUp(lo)
		})
	})
	if err != nil {
		_ = namespace.Close()
		return nil, fmt.Errorf("tag lo: %w", err)
	}
	return namespace, nil
}

func newUntagged(user uint32) (ns.NetNS, error) {
	if user == 0 {
		namespace, err := ns.TempNetNS()
		if err != nil {
			return nil, fmt.Errorf("unshare: %w", err)
		}
		return namespace, nil
	}
	file, err := newOwned(user)
	if err != nil {
		return nil, fmt.Errorf("make user namespace of user id %d: %w", user, err)
	}
	defer file.Close()
	return ns.GetNS(descriptorPath(int(file.Fd())))
}
