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
	// pause is the time between the first message of a burst and its report. No message is read meanwhile.
	pause = 100 * time.Millisecond
	// burst is the maximum number of messages that one call of receive reads. There are two calls for each pause.
	burst = 256
	// receiveBuffer limits the kernel memory for unread messages, in bytes. Messages that do not fit are lost. The
	// kernel reports the loss (ENOBUFS), which counts as a change.
	receiveBuffer = 16 << 10
	// hostBuffer is the same limit for the links of the host. A message about a link has about 3 KiB, and a busy host
	// has many of them.
	hostBuffer = 2 << 20
	// messageSize is the number of bytes that are read of a message. In a message about a new SA they end before the
	// keys.
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
	// xfrm does not include XFRMNLGRP_ACQUIRE, which has a message for every packet that needs an SA: anybody who can
	// send packets to the container could cause these.
	xfrm = protocol{
		unix.NETLINK_XFRM, groups(nl.XFRMNLGRP_SA, nl.XFRMNLGRP_POLICY, nl.XFRMNLGRP_EXPIRE), receiveBuffer,
		isXFRMChange,
	}
	// route does not include neighbours, for the same reason.
	route = protocol{unix.NETLINK_ROUTE, groups(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF), receiveBuffer, isRouteChange}
	nftables = protocol{
		unix.NETLINK_NETFILTER, groups(unix.NFNLGRP_NFTABLES), receiveBuffer, func([]byte) bool { return true },
	}
	hostLinks = protocol{unix.NETLINK_ROUTE, groups(unix.RTNLGRP_LINK), hostBuffer, nil}
)

// groups returns the bit mask of multicast groups.
func groups(numbers ...int) (bits uint32) {
	for _, n := range numbers {
		bits |= 1 << (n - 1)
	}
	return bits
}

// protocolsOf lists the protocols to subscribe to for the given kinds of events.
func protocolsOf(events spec.Events) (list []protocol) {
	if events.XFRM {
		list = append(list, xfrm)
	}
	if events.Network {
		list = append(list, route, nftables)
	}
	return list
}

// socket is a netlink socket. Reading it does not block a thread.
type socket struct {
	file *os.File
	conn syscall.RawConn
}

// openSockets opens a subscribed socket for each protocol in the namespace, which may be owned by another user
// namespace. The socket for nftables is nil if the kernel does not have it; that another protocol is missing is an
// error. ns.NetNS.Do enters the namespace on a locked thread, which ends if it cannot switch back.
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

// closeAll closes sockets. Elements may be nil.
func closeAll(sockets []*socket) {
	for _, s := range sockets {
		if s != nil {
			s.close()
		}
	}
}

// openSocket opens a subscribed socket in the namespace of the calling thread.
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

// close closes the descriptor before it returns, which also ends serve.
func (s *socket) close() { _ = s.file.Close() }

// serve reads messages until the socket is closed. It calls changed after each burst in which a message is a change or
// messages were lost; lost reports the latter. It reads at most two bursts per pause, so that a process that causes
// events without end in its namespace cannot make it use more CPU time.
func (s *socket) serve(isChange func(message []byte) bool, changed func(lost bool)) {
	buffer := make([]byte, messageSize)
	for {
		var first, rest reception
		err := s.conn.Read(func(fd uintptr) bool {
			first = receive(int(fd), buffer, isChange)
			return first.any
		})
		if err != nil {
			return // the socket is closed
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

// reception is the result of one call of receive: whether there was any message or loss, whether a message was a
// change, and whether messages were lost.
type reception struct{ any, change, lost bool }

// receive reads the messages that are available, up to a burst. It does not wait.
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
