package netns

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Link is an interface in the host's network namespace. Owner is the owner tag that was read, even if the link is
// Foreign.
type Link struct {
	Name     spec.Name
	State    State // Absent, Foreign or Ours
	Owner    spec.Owner
	Index    int
	Sent     uint64 // packets since the interface was made; on the host's end of a veth, packets to the container
	Received uint64 // packets since the interface was made; on the host's end of a veth, packets from the container
}

// ObserveLink returns the state of the interface with that name in the network namespace of the process, which is the
// host's end of the container's veth. On an error the state is Unknown.
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
	state, owner := classifyLink(name, found)
	if found.Attrs().Name != string(name) {
		state = Foreign // the kernel matched an alternative name; this project sets none
	}
	link := Link{Name: name, State: state, Owner: owner, Index: found.Attrs().Index}
	if statistics := found.Attrs().Statistics; statistics != nil {
		link.Sent, link.Received = statistics.TxPackets, statistics.RxPackets
	}
	return link, nil
}

// RemoveLink removes the interface of that name if its state is Ours. It returns nil if there is no such interface, and
// an error that wraps ErrForeign if the interface is not ours.
func RemoveLink(name spec.Name) error {
	err := withNetlink(func(handle *netlink.Handle) error {
		link, err := observeLink(handle, name)
		if err != nil || link.State == Absent {
			return err
		}
		if link.State != Ours {
			return ErrForeign
		}
		// The index identifies the observed interface, even if another interface has got the name since.
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

// ListLinks returns the interfaces in the network namespace of the process whose state is Ours.
func ListLinks() ([]Link, error) {
	var links []Link
	err := withNetlink(func(handle *netlink.Handle) error {
		links = nil
		all, err := handle.LinkList()
		for _, found := range all {
			attrs := found.Attrs()
			name := spec.Name(attrs.Name)
			if state, owner := classifyLink(name, found); state == Ours {
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

// classifyLink returns the state and the owner of a link. A link that a killed process left before it set the owner tag
// is Ours (see spec.UnfinishedGroup).
func classifyLink(name spec.Name, link netlink.Link) (State, spec.Owner) {
	attrs := link.Attrs()
	if attrs.Alias == "" && attrs.Group == spec.UnfinishedGroup(spec.Network) && link.Type() == "veth" {
		return Ours, spec.Owner{Network: spec.Network, Name: name}
	}
	return classify(name, attrs.Alias)
}

func notFound(err error) bool {
	return errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, unix.ENODEV)
}
