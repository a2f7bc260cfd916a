package kernelevents

import (
	"bytes"
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// split returns the type of a netlink message and the part after its header. message may be truncated. The type is 0,
// which the kernel does not use, if message is shorter than a header.
func split(message []byte) (kind uint16, payload []byte) {
	if len(message) < unix.SizeofNlMsghdr {
		return 0, nil
	}
	return binary.NativeEndian.Uint16(message[4:]), message[unix.SizeofNlMsghdr:]
}

// isXFRMChange reports whether a message is about a change of the IPsec state. The soft limit of an SA or policy is not
// a change; the daemon acts on it. The expiry of an SA without an SPI is not a change either: the kernel makes such an
// SA for a packet that has no SA yet, and drops it if the daemon does not negotiate an SA in time.
func isXFRMChange(message []byte) bool {
	kind, payload := split(message)
	switch nl.XfrmMsgType(kind) {
	case 0:
		return false
	case nl.XFRM_MSG_EXPIRE:
		if len(payload) < nl.SizeofXfrmUserExpire {
			return false
		}
		expire := nl.DeserializeXfrmUserExpire(payload)
		return expire.Hard != 0 && expire.XfrmUsersaInfo.Id.Spi != 0
	case nl.XFRM_MSG_POLEXPIRE: // struct xfrm_user_polexpire: the policy, then the field hard
		return len(payload) > nl.SizeofXfrmUserpolicyInfo && payload[nl.SizeofXfrmUserpolicyInfo] != 0
	default:
		return true
	}
}

// isRouteChange reports whether a message of rtnetlink is about a change that CHECK can find. The addresses and routes
// that the kernel makes itself when an interface comes up are not: the link-local address, and the routes of addresses.
func isRouteChange(message []byte) bool {
	kind, payload := split(message)
	switch kind {
	case 0:
		return false
	case unix.RTM_NEWADDR, unix.RTM_DELADDR: // struct ifaddrmsg: family, prefix length, flags, scope
		return len(payload) >= unix.SizeofIfAddrmsg && payload[3] != unix.RT_SCOPE_LINK
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE: // struct rtmsg: family, two lengths, TOS, table, protocol
		return len(payload) >= unix.SizeofRtMsg && payload[5] != unix.RTPROT_KERNEL
	default:
		return true
	}
}

// changedLink returns the name of the interface that a message of rtnetlink is about. It returns false for other
// messages, and for those of a bridge about the state of a port (AF_BRIDGE).
func changedLink(message []byte) (spec.Name, bool) {
	kind, payload := split(message)
	if kind != unix.RTM_NEWLINK && kind != unix.RTM_DELLINK ||
		len(payload) < unix.SizeofIfInfomsg || payload[0] != unix.AF_UNSPEC {
		return "", false
	}
	// The name is the first attribute (rtnl_fill_ifinfo).
	attribute := payload[unix.SizeofIfInfomsg:]
	if len(attribute) < unix.SizeofRtAttr || binary.NativeEndian.Uint16(attribute[2:]) != unix.IFLA_IFNAME {
		return "", false
	}
	length := int(binary.NativeEndian.Uint16(attribute))
	if length < unix.SizeofRtAttr || length > len(attribute) {
		return "", false
	}
	name, _, _ := bytes.Cut(attribute[unix.SizeofRtAttr:length], []byte{0})
	return spec.Name(name), true
}
