package network

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// lacks is what the kernel answered. One that learns a protocol while a verb runs is asked by the next verb.
var lacks sync.Map

// KernelLacks says why this kernel cannot carry the protocol ("esp" or "ah") of one family, "" if it can. It asks once, by
// installing a state in a namespace that nobody else sees and that ends with the answer; the kernel loads its module then.
func KernelLacks(protocol string, ipv4 bool) string {
	ask := sync.OnceValue(func() string { return askKernel(protocol, ipv4) })
	known, _ := lacks.LoadOrStore(protocol+strconv.FormatBool(ipv4), ask)
	return known.(func() string)()
}

func askKernel(protocol string, ipv4 bool) string {
	var answer string
	_ = ownthread.Do(func() error {
		answer = probe(protocol, ipv4)
		return nil
	})
	return answer
}

func probe(protocol string, ipv4 bool) string {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return "" // not known
	}
	state := &netlink.XfrmState{
		Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Spi: 0x1000,
		Src: net.IPv4(192, 0, 2, 1), Dst: net.IPv4(192, 0, 2, 2),
		Auth: &netlink.XfrmStateAlgo{Name: "hmac(sha256)", Key: make([]byte, 32), TruncateLen: 128},
	}
	if protocol == "ah" {
		state.Proto = netlink.XFRM_PROTO_AH
	} else {
		state.Crypt = &netlink.XfrmStateAlgo{Name: "cbc(aes)", Key: make([]byte, 16)}
	}
	if !ipv4 {
		state.Src, state.Dst = net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
	}
	if err := netlink.XfrmStateAdd(state); errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		family := map[bool]string{true: "IPv4", false: "IPv6"}[ipv4]
		return fmt.Sprintf("the kernel has no %s for %s", map[string]string{"esp": "ESP", "ah": "AH"}[protocol], family)
	}
	return ""
}
