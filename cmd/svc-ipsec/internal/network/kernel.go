package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// askAgain is how long the answer holds that the kernel lacks a protocol: its module may be installed meanwhile. That it has a
// protocol holds until the next boot, since directory is below /run.
const askAgain = time.Minute

// KernelLacks returns why this kernel cannot carry the protocol ("esp" or "ah") of one family, "" if it can. It asks by
// installing a state in a network namespace that nobody else sees and that ends with the answer; the kernel loads its
// module then. A namespace costs milliseconds, so the answer is kept in a file of the directory.
func KernelLacks(directory, protocol string, ipv4 bool) string {
	path := filepath.Join(directory, fmt.Sprintf(".kernel-%s-ipv4-%t", protocol, ipv4))
	if info, err := os.Stat(path); err == nil {
		known, err := os.ReadFile(path)
		if err == nil && (len(known) == 0 || time.Since(info.ModTime()) < askAgain) {
			return string(known)
		}
	}
	answer := askKernel(protocol, ipv4)
	_ = renameio.WriteFile(path, []byte(answer), 0o600) // else the next verb asks again
	return answer
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
