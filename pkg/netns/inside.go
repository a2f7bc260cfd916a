package netns

import (
	"fmt"
	"os"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// aliasIn reads the alias of lo in an open namespace.
func aliasIn(file *os.File) (string, error) {
	namespace, err := ns.GetNS(descriptorPath(int(file.Fd())))
	if err != nil {
		return "", err
	}
	defer namespace.Close()
	return readAlias(namespace)
}

// readAlias reads the alias of lo in the namespace. ns.NetNS.Do uses a locked thread, which ends if it
// cannot return to its own namespace, so no other goroutine runs in there.
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

// newTagged makes a namespace without a name, puts the tag on its lo and brings lo up. The namespace lives as long as
// what is returned is open, or until it gets a name. With a user id other than 0 it is owned by a user namespace of that
// user (see newOwned).
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
