package kernelevents

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

const (
	// pause is the time between the first message of a burst and its report. Nothing is read meanwhile.
	pause = 100 * time.Millisecond
	// burst is how many messages one call of receive reads at most. There are two calls for each pause.
	burst = 256
	// receiveBuffer bounds the kernel memory of messages that were not read. Those that do not fit are lost, and the kernel
	// reports that (ENOBUFS), which is as good as a message here.
	receiveBuffer = 16 << 10
	// hostBuffer is the same for the links of the host. A message about a link has some 3 KiB, and there are many on a busy host.
	hostBuffer = 2 << 20
	// messageSize is the part of a message that is read. It ends before the keys in a message about a new SA.
	messageSize = unix.SizeofNlMsghdr + nl.SizeofXfrmUserExpire
)

// protocol is a netlink protocol with the multicast groups that are subscribed to.
type protocol struct {
	number   int
	groups   uint32
	buffer   int // bytes
	isChange func(message []byte) bool
}

var (
	// xfrm does not have XFRMNLGRP_ACQUIRE: every packet that needs an SA causes a message there, and a stranger can send such packets.
	xfrm = protocol{unix.NETLINK_XFRM, group(nl.XFRMNLGRP_SA, nl.XFRMNLGRP_POLICY, nl.XFRMNLGRP_EXPIRE), receiveBuffer, isXFRMChange}
	// route has no neighbours, for the same reason.
	route = protocol{unix.NETLINK_ROUTE, group(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF), receiveBuffer, isRouteChange}
	nftables  = protocol{unix.NETLINK_NETFILTER, group(unix.NFNLGRP_NFTABLES), receiveBuffer, func([]byte) bool { return true }}
	hostLinks = protocol{unix.NETLINK_ROUTE, group(unix.RTNLGRP_LINK), hostBuffer, nil}
)

// group returns the bits of multicast groups.
func group(numbers ...int) (bits uint32) {
	for _, n := range numbers {
		bits |= 1 << (n - 1)
	}
	return bits
}

// protocolsOf lists what must be subscribed to for events.
func protocolsOf(events spec.Events) (list []protocol) {
	if events.XFRM {
		list = append(list, xfrm)
	}
	if events.Network {
		list = append(list, route, nftables)
	}
	return list
}

// socket is a netlink socket that is read without blocking a thread.
type socket struct {
	file *os.File
	conn syscall.RawConn
}

// openSockets makes a subscribed socket for each protocol in the namespace, which may be owned by another user namespace.
// ns.NetNS.Do enters it with a locked thread that ends if it cannot return.
func openSockets(namespace ns.NetNS, protocols []protocol) (sockets []*socket, err error) {
	err = namespace.Do(func(ns.NetNS) error {
		for _, p := range protocols {
			s, err := openSocket(p)
			if p.number == unix.NETLINK_NETFILTER && errors.Is(err, unix.EPROTONOSUPPORT) {
				s, err = nil, nil // a kernel without nftables
			}
			if err != nil {
				return err
			}
			sockets = append(sockets, s)
		}
		return nil
	})
	if err != nil {
		closeAll(sockets)
		return nil, err
	}
	return sockets, nil
}

// closeAll closes sockets, of which some may be nil.
func closeAll(sockets []*socket) {
	for _, s := range sockets {
		if s != nil {
			s.close()
		}
	}
}

// openSocket makes a subscribed socket in the namespace of the calling thread.
func openSocket(p protocol) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, p.number)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "kernel events")
	conn, err := file.SyscallConn()
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, p.buffer)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: p.groups})
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return &socket{file, conn}, nil
}

// close closes the descriptor before it returns, and so ends serve.
func (s *socket) close() { _ = s.file.Close() }

// serve calls changed after each burst of messages in which isChange was true for one, or of which some were lost. It reads at most
// two bursts per pause, so a process that floods its namespace with events cannot make it use more CPU.
func (s *socket) serve(isChange func(message []byte) bool, changed func(lost bool)) {
	buffer := make([]byte, messageSize)
	for {
		var first, rest reception
		err := s.conn.Read(func(fd uintptr) bool {
			first = receive(int(fd), buffer, isChange)
			return first.any
		})
		if err != nil {
			return // closed
		}
		time.Sleep(pause)
		err = s.conn.Read(func(fd uintptr) bool {
			rest = receive(int(fd), buffer, isChange)
			return true
		})
		if err != nil {
			return
		}
		if lost := first.lost || rest.lost; lost || first.change || rest.change {
			changed(lost)
		}
	}
}

// reception says what one call of receive found.
type reception struct{ any, change, lost bool }

// receive reads what is there, up to a burst.
func receive(fd int, buffer []byte, isChange func([]byte) bool) (r reception) {
	for range burst {
		n, err := unix.Read(fd, buffer)
		switch err {
		case nil:
			r.any = true
			if isChange(buffer[:n]) {
				r.change = true
			}
		case unix.EINTR:
		case unix.EAGAIN:
			return r
		default: // ENOBUFS: messages were lost
			r.any, r.lost = true, true
		}
	}
	return r
}
