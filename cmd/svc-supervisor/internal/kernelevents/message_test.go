package kernelevents

import (
	"encoding/binary"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

func TestIsXFRMChange(t *testing.T) {
	const (
		soft = 0
		hard = 1
	)
	message := func(kind nl.XfrmMsgType, payload []byte) []byte {
		header := make([]byte, unix.SizeofNlMsghdr)
		binary.NativeEndian.PutUint16(header[4:], uint16(kind))
		return append(header, payload...)
	}
	expire := func(limit uint8, spi uint32) []byte {
		e := nl.XfrmUserExpire{Hard: limit}
		e.XfrmUsersaInfo.Id.Spi = nl.Swap32(spi)
		return e.Serialize()
	}
	policyExpire := func(limit uint8) []byte {
		return append(make([]byte, nl.SizeofXfrmUserpolicyInfo), limit, 0, 0, 0)
	}
	rows := []struct {
		sentence string
		message  []byte
		want     bool
	}{
		{"a new SA is a change", message(nl.XFRM_MSG_NEWSA, nil), true},
		{"a deleted SA is a change", message(nl.XFRM_MSG_DELSA, nil), true},
		{"flushed SAs are a change", message(nl.XFRM_MSG_FLUSHSA, nil), true},
		{"a new policy is a change", message(nl.XFRM_MSG_NEWPOLICY, nil), true},
		{"flushed policies are a change", message(nl.XFRM_MSG_FLUSHPOLICY, nil), true},
		{"the hard limit of an SA is a change", message(nl.XFRM_MSG_EXPIRE, expire(hard, 0x1234)), true},
		{"the soft limit of an SA is not a change", message(nl.XFRM_MSG_EXPIRE, expire(soft, 0x1234)), false},
		{"the end of an SA that a packet caused is not a change", message(nl.XFRM_MSG_EXPIRE, expire(hard, 0)), false},
		{"a truncated limit of an SA is not a change", message(nl.XFRM_MSG_EXPIRE, expire(hard, 0x1234)[:100]), false},
		{"the hard limit of a policy is a change", message(nl.XFRM_MSG_POLEXPIRE, policyExpire(hard)), true},
		{"the soft limit of a policy is not a change", message(nl.XFRM_MSG_POLEXPIRE, policyExpire(soft)), false},
		{"a truncated limit of a policy is not a change", message(nl.XFRM_MSG_POLEXPIRE, nil), false},
		{"a truncated header is not a change", make([]byte, 7), false},
	}
	for _, row := range rows {
		if got := isXFRMChange(row.message); got != row.want {
			t.Errorf("%s: got %v", row.sentence, got)
		}
	}
}

func routeMessage(kind uint16, payload ...byte) []byte {
	header := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint16(header[4:], kind)
	return append(header, payload...)
}

func TestIsRouteChange(t *testing.T) {
	address := func(scope byte) []byte { return []byte{unix.AF_INET6, 64, 0, scope, 1, 0, 0, 0} }
	route := func(protocol byte) []byte {
		return []byte{unix.AF_INET6, 64, 0, 0, unix.RT_TABLE_MAIN, protocol, 0, 1, 0, 0, 0, 0}
	}
	rows := []struct {
		sentence string
		message  []byte
		want     bool
	}{
		{"a global address is a change", routeMessage(unix.RTM_DELADDR, address(unix.RT_SCOPE_UNIVERSE)...), true},
		{"a link-local address is not a change", routeMessage(unix.RTM_NEWADDR, address(unix.RT_SCOPE_LINK)...), false},
		{"a truncated address is not a change", routeMessage(unix.RTM_NEWADDR, unix.AF_INET6), false},
		{"a route of a program is a change", routeMessage(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC)...), true},
		{"a route of an address is not a change", routeMessage(unix.RTM_NEWROUTE, route(unix.RTPROT_KERNEL)...), false},
		{"a truncated route is not a change", routeMessage(unix.RTM_NEWROUTE, unix.AF_INET), false},
		{"a link is a change", routeMessage(unix.RTM_NEWLINK), true},
		{"a setting is a change", routeMessage(unix.RTM_NEWNETCONF), true},
		{"a truncated header is not a change", make([]byte, 7), false},
	}
	for _, row := range rows {
		if got := isRouteChange(row.message); got != row.want {
			t.Errorf("%s: got %v", row.sentence, got)
		}
	}
}

func TestChangedLinkReturnsTheName(t *testing.T) {
	link := func(family byte, attribute ...byte) []byte {
		return append(append([]byte{family}, make([]byte, unix.SizeofIfInfomsg-1)...), attribute...)
	}
	name := func(length, kind uint16, text string) []byte {
		b := binary.NativeEndian.AppendUint16(nil, length)
		return append(binary.NativeEndian.AppendUint16(b, kind), text...)
	}
	rows := []struct {
		sentence string
		message  []byte
		want     spec.Name
	}{
		{"a new link", routeMessage(unix.RTM_NEWLINK, link(0, name(8, unix.IFLA_IFNAME, "vpn\x00")...)...), "vpn"},
		{"a deleted link", routeMessage(unix.RTM_DELLINK, link(0, name(8, unix.IFLA_IFNAME, "vpn\x00....")...)...),
			"vpn"},
		{
			"the state of a bridge's port",
			routeMessage(unix.RTM_NEWLINK, link(unix.AF_BRIDGE, name(8, unix.IFLA_IFNAME, "vpn\x00")...)...), "",
		},
		{"an address", routeMessage(unix.RTM_NEWADDR, link(0, name(8, unix.IFLA_IFNAME, "vpn\x00")...)...), ""},
		{"another attribute", routeMessage(unix.RTM_NEWLINK, link(0, name(8, unix.IFLA_MTU, "vpn\x00")...)...), ""},
		{
			"an attribute that is longer than the message",
			routeMessage(unix.RTM_NEWLINK, link(0, name(80, unix.IFLA_IFNAME, "vpn\x00")...)...), "",
		},
		{
			"an attribute that is shorter than its header",
			routeMessage(unix.RTM_NEWLINK, link(0, name(3, unix.IFLA_IFNAME, "vpn\x00")...)...), "",
		},
		{"no attribute", routeMessage(unix.RTM_NEWLINK, link(0)...), ""},
		{"a truncated link", routeMessage(unix.RTM_NEWLINK, 0), ""},
	}
	for _, row := range rows {
		if got, ok := changedLink(row.message); got != row.want || ok != (row.want != "") {
			t.Errorf("%s: got %q %v", row.sentence, got, ok)
		}
	}
}
