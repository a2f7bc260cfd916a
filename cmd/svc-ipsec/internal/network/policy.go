package network

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// policy is an IPsec policy of the kernel. netlink.XfrmPolicy cannot represent all policies: it returns an IPv6 network
// whose last 96 bits are zero (fd02::/64, ::/0) as an IPv4 network, and loses its prefix length.
type policy struct {
	selector
	direction netlink.Dir
	action    netlink.PolicyAction
	priority  int
	index     int // assigned by the kernel
	mark      *netlink.XfrmMark
	templates []template
}

// selector has the networks that a policy matches. Both are of the same family.
type selector struct{ source, destination netip.Prefix }

func (s selector) overlaps(other selector) bool {
	return s.source.Overlaps(other.source) && s.destination.Overlaps(other.destination)
}

// template is the transformation that a policy requires: SAs between these two addresses.
type template struct {
	source, destination netip.Addr
	reqid               int
}

// listPolicies returns the policies in the network namespace of the calling thread.
func listPolicies() ([]policy, error) {
	list, err := dump(func() ([]policy, error) {
		request := nl.NewNetlinkRequest(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_DUMP)
		request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		messages, err := request.Execute(unix.NETLINK_XFRM, nl.XFRM_MSG_NEWPOLICY)
		if err != nil {
			return nil, err
		}
		var list []policy
		for _, message := range messages {
			p, err := parsePolicy(message)
			if err != nil {
				return nil, err
			}
			list = append(list, p)
		}
		return list, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	return list, nil
}

func parsePolicy(message []byte) (policy, error) {
	info := nl.DeserializeXfrmUserpolicyInfo(message)
	p := policy{
		direction: netlink.Dir(info.Dir), action: netlink.PolicyAction(info.Action),
		priority: int(info.Priority), index: int(info.Index),
	}
	p.source = netip.PrefixFrom(xfrmAddress(info.Sel.Saddr, info.Sel.Family), int(info.Sel.PrefixlenS))
	p.destination = netip.PrefixFrom(xfrmAddress(info.Sel.Daddr, info.Sel.Family), int(info.Sel.PrefixlenD))
	attributes, err := nl.ParseRouteAttr(message[info.Len():])
	if err != nil {
		return policy{}, err
	}
	for _, attribute := range attributes {
		switch attribute.Attr.Type {
		case nl.XFRMA_TMPL:
			for value := attribute.Value; len(value) >= nl.SizeofXfrmUserTmpl; value = value[nl.SizeofXfrmUserTmpl:] {
				t := nl.DeserializeXfrmUserTmpl(value)
				p.templates = append(p.templates, template{
					xfrmAddress(t.Saddr, t.Family), xfrmAddress(t.XfrmId.Daddr, t.Family), int(t.Reqid),
				})
			}
		case nl.XFRMA_MARK:
			mark := nl.DeserializeXfrmMark(attribute.Value)
			p.mark = &netlink.XfrmMark{Value: mark.Value, Mask: mark.Mask}
		}
	}
	return p, nil
}

func xfrmAddress(a nl.XfrmAddress, family uint16) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[:4]))
}

// message returns the policy in the type of package netlink.
func (p policy) message() *netlink.XfrmPolicy {
	return &netlink.XfrmPolicy{
		Src: IPNet(p.source), Dst: IPNet(p.destination), Dir: p.direction, Action: p.action, Priority: p.priority,
		Index: p.index, Mark: p.mark}
}
