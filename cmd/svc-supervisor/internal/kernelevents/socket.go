package kernelevents

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// groups are the multicast groups of a socket. XFRMNLGRP_ACQUIRE is not among them: it has a message for a packet, which a
	// stranger can send.
	groups = 1<<(nl.XFRMNLGRP_SA-1) | 1<<(nl.XFRMNLGRP_POLICY-1) | 1<<(nl.XFRMNLGRP_EXPIRE-1)
	// pause is the time between the first message of a burst and its report. Nothing is read meanwhile.
	pause = 100 * time.Millisecond
	// burst is how many messages one call of receive reads at most. There are two calls for each pause.
	burst = 256
	// receiveBuffer bounds the kernel memory of messages that were not read. Those that do not fit are lost, and the kernel
	// reports that (ENOBUFS), which is as good as a message here.
	receiveBuffer = 16 << 10
	// messageSize is the part of a message that is read. It ends before the keys in a message about a new SA.
	messageSize = unix.SizeofNlMsghdr + nl.SizeofXfrmUserExpire
)

// socket is a netlink socket in another namespace, which is read without blocking a thread.
type socket struct {
	file *os.File
	conn syscall.RawConn
}

// openSocket makes a subscribed socket in the namespace, which may be owned by another user namespace. ns.NetNS.Do enters it with
// a locked thread that ends if it cannot return.
func openSocket(namespace ns.NetNS) (*socket, error) {
	fd := -1
	err := namespace.Do(func(ns.NetNS) (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_XFRM)
		return err
	})
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, fmt.Errorf("socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "XFRM events")
	conn, err := file.SyscallConn()
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	return &socket{file, conn}, nil
}

// close closes the descriptor before it returns, and so ends serve.
func (s *socket) close() { _ = s.file.Close() }

// serve calls changed after each burst of messages that has a change. It reads at most two bursts per pause, so a process that
// floods its namespace with events cannot make it use more CPU.
func (s *socket) serve(changed func()) {
	buffer := make([]byte, messageSize)
	for {
		first, rest := false, false
		err := s.conn.Read(func(fd uintptr) (done bool) {
			done, first = receive(int(fd), buffer)
			return done
		})
		if err != nil {
			return // closed
		}
		time.Sleep(pause)
		err = s.conn.Read(func(fd uintptr) bool {
			_, rest = receive(int(fd), buffer)
			return true
		})
		if err != nil {
			return
		}
		if first || rest {
			changed()
		}
	}
}

// receive reads what is there, up to a burst. It returns whether there was anything, and whether that has a change.
func receive(fd int, buffer []byte) (received, change bool) {
	for range burst {
		n, err := unix.Read(fd, buffer)
		switch err {
		case nil:
			received, change = true, change || isChange(buffer[:n])
		case unix.EINTR:
		case unix.EAGAIN:
			return received, change
		default: // ENOBUFS: messages were lost
			received, change = true, true
		}
	}
	return received, change
}
