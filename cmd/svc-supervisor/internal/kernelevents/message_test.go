package kernelevents

import (
	"encoding/binary"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func TestWhichMessagesAreChanges(t *testing.T) {
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
	policyExpire := func(limit uint8) []byte { return append(make([]byte, nl.SizeofXfrmUserpolicyInfo), limit, 0, 0, 0) }
	rows := []struct {
		sentence string
		message  []byte
		want     bool
	}{
		{"a new SA is one", message(nl.XFRM_MSG_NEWSA, nil), true},
		{"a deleted SA is one", message(nl.XFRM_MSG_DELSA, nil), true},
		{"flushed SAs are one", message(nl.XFRM_MSG_FLUSHSA, nil), true},
		{"a new policy is one", message(nl.XFRM_MSG_NEWPOLICY, nil), true},
		{"flushed policies are one", message(nl.XFRM_MSG_FLUSHPOLICY, nil), true},
		{"the hard limit of an SA is one", message(nl.XFRM_MSG_EXPIRE, expire(hard, 0x1234)), true},
		{"the soft limit of an SA is none", message(nl.XFRM_MSG_EXPIRE, expire(soft, 0x1234)), false},
		{"the end of an SA that a packet made is none", message(nl.XFRM_MSG_EXPIRE, expire(hard, 0)), false},
		{"half a limit of an SA is none", message(nl.XFRM_MSG_EXPIRE, expire(hard, 0x1234)[:100]), false},
		{"the hard limit of a policy is one", message(nl.XFRM_MSG_POLEXPIRE, policyExpire(hard)), true},
		{"the soft limit of a policy is none", message(nl.XFRM_MSG_POLEXPIRE, policyExpire(soft)), false},
		{"half a limit of a policy is none", message(nl.XFRM_MSG_POLEXPIRE, nil), false},
		{"half a header is none", make([]byte, 7), false},
	}
	for _, row := range rows {
		if got := isChange(row.message); got != row.want {
			t.Errorf("%s: got %v", row.sentence, got)
		}
	}
}
