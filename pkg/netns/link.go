package netns

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Link is what has an interface name in the host's namespace. Owner is the tag that was read, a foreign one too.
type Link struct {
	Name     spec.Name
	State    State // Absent, Foreign or Ours
	Owner    spec.Owner
	Index    int
	Sent     uint64 // packets since the interface was made: to the container, where it is the host's end of a veth
	Received uint64 // packets since then: from the container
}

// ObserveLink looks at the interface of that name in the namespace of the process: the host-side veth of the container.
func ObserveLink(name spec.Name) (Link, error) {
	var link Link
	err := withNetlink(func(handle *netlink.Handle) error {
		var err error
		link, err = observeLink(handle, name)
		return err
	})
	if err != nil {
		return Link{Name: name}, fmt.Errorf("observe link %s: %w", name, err)
	}
	return link, nil
}

func observeLink(handle *netlink.Handle, name spec.Name) (Link, error) {
	found, err := handle.LinkByName(string(name))
	if notFound(err) {
		return Link{Name: name, State: Absent}, nil
	}
	if err != nil {
		return Link{}, err
	}
	state, owner := judgeLink(name, found)
	if found.Attrs().Name != string(name) {
		state = Foreign // the kernel finds an alternative name too; ours have none
	}
	link := Link{Name: name, State: state, Owner: owner, Index: found.Attrs().Index}
	if statistics := found.Attrs().Statistics; statistics != nil {
		link.Sent, link.Received = statistics.TxPackets, statistics.RxPackets
	}
	return link, nil
}

// RemoveLink removes the interface of that name if it is ours, ErrForeign if it is not; absent is success.
func RemoveLink(name spec.Name) error {
	err := withNetlink(func(handle *netlink.Handle) error {
		link, err := observeLink(handle, name)
		if err != nil || link.State == Absent {
			return err
		}
		if link.State != Ours {
			return ErrForeign
		}
		// By index: what gets the name after we looked is left alone.
		err = handle.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: link.Index}})
		if notFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

// ListLinks lists the interfaces of the process's namespace that carry our tag for their name.
func ListLinks() ([]Link, error) {
	var links []Link
	err := withNetlink(func(handle *netlink.Handle) error {
		links = nil
		all, err := handle.LinkList()
		for _, found := range all {
			attrs := found.Attrs()
			name := spec.Name(attrs.Name)
			if state, owner := judgeLink(name, found); state == Ours {
				links = append(links, Link{Name: name, State: state, Owner: owner, Index: attrs.Index})
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return links, nil
}

// judgeLink says whose a link is. One that a killed process has left before it had its owner tag is ours (see
// spec.UnfinishedGroup).
func judgeLink(name spec.Name, link netlink.Link) (State, spec.Owner) {
	attrs := link.Attrs()
	if attrs.Alias == "" && attrs.Group == spec.UnfinishedGroup(spec.Network) && link.Type() == "veth" {
		return Ours, spec.Owner{Network: spec.Network, Name: name}
	}
	return judge(name, attrs.Alias)
}

func notFound(err error) bool {
	return errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, unix.ENODEV)
}
