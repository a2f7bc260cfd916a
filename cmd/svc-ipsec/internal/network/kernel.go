package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/atomicfile"
	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// negativeCacheTime is how long the result holds that the kernel lacks a protocol, because its module may be installed
// later. The opposite result holds until the next boot, because the directory is below /run.
const negativeCacheTime = time.Minute

// KernelLacks returns the reason why this kernel does not support the protocol ("esp" or "ah") for an address family,
// or "" if it does. It tries to add an SA in a new network namespace, which is destroyed afterwards; the kernel then
// loads the module of the protocol. Creating a namespace takes milliseconds, so the result is cached in a file of the
// directory.
func KernelLacks(directory, protocol string, ipv4 bool) string {
	path := filepath.Join(directory, fmt.Sprintf(".kernel-%s-ipv4-%t", protocol, ipv4))
	if info, err := os.Stat(path); err == nil {
		cached, err := os.ReadFile(path)
		if err == nil && (len(cached) == 0 || time.Since(info.ModTime()) < negativeCacheTime) {
			return string(cached)
		}
	}
	result := probeInNewNamespace(protocol, ipv4)
	_ = atomicfile.Write(path, []byte(result), atomicfile.Options{}) // if this fails, the next verb repeats the test
	return result
}

func probeInNewNamespace(protocol string, ipv4 bool) string {
	var result string
	_ = ownthread.Do(func() error {
		result = probe(protocol, ipv4)
		return nil
	})
	return result
}

func probe(protocol string, ipv4 bool) string {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return "" // unknown
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
	err := netlink.XfrmStateAdd(state)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		family := map[bool]string{true: "IPv4", false: "IPv6"}[ipv4]
		return fmt.Sprintf("the kernel has no %s for %s", map[string]string{"esp": "ESP", "ah": "AH"}[protocol], family)
	}
	return ""
}
