package kernelevents

import (
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// isChange says whether a message, of which the beginning is given, is about a change of the state. A soft limit that was reached
// changes nothing, the daemon follows it. Neither does the end of an SA without an SPI: the kernel makes one for a packet that has
// no SA yet, and drops it when the daemon does not negotiate one in time.
func isChange(message []byte) bool {
	if len(message) < unix.SizeofNlMsghdr {
		return false
	}
	payload := message[unix.SizeofNlMsghdr:]
	switch nl.XfrmMsgType(binary.NativeEndian.Uint16(message[4:])) {
	case nl.XFRM_MSG_EXPIRE:
		if len(payload) < nl.SizeofXfrmUserExpire {
			return false
		}
		expire := nl.DeserializeXfrmUserExpire(payload)
		return expire.Hard != 0 && expire.XfrmUsersaInfo.Id.Spi != 0
	case nl.XFRM_MSG_POLEXPIRE: // struct xfrm_user_polexpire: the policy, then hard
		return len(payload) > nl.SizeofXfrmUserpolicyInfo && payload[nl.SizeofXfrmUserpolicyInfo] != 0
	default:
		return true
	}
}
