package health

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// timespecSize is the size of struct __kernel_timespec.
const timespecSize = 16

// enableSenderInfo makes the kernel add the sender's credentials and the time of sending to every datagram.
func enableSenderInfo(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var credErr, timeErr error
	err = raw.Control(func(fd uintptr) {
		credErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		timeErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
	})
	return errors.Join(err, credErr, timeErr)
}

// socket reads datagrams with their senders. The content of a datagram is valid until the next call of read.
type socket struct {
	conn    *net.UnixConn
	buffer  []byte
	control []byte
}

// newSocket returns a socket with a buffer for exactly the two control messages that enableSenderInfo enables. If a
// sender passes file descriptors (SCM_RIGHTS), the kernel closes them because there is no space in the buffer. With
// space, they would stay open in the supervisor.
func newSocket(conn *net.UnixConn) *socket {
	return &socket{
		conn:    conn,
		buffer:  make([]byte, spec.HealthLimit+1),
		control: make([]byte, unix.CmsgSpace(timespecSize)+unix.CmsgSpace(unix.SizeofUcred)),
	}
}

// read returns the next datagram and its sender. It waits until the deadline, or without a limit if the deadline is
// zero. The pid is 0 if the kernel did not send the credentials.
func (s *socket) read(deadline time.Time) ([]byte, sender, error) {
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return nil, sender{}, err
	}
	n, control, _, _, err := s.conn.ReadMsgUnix(s.buffer, s.control)
	if err != nil {
		return nil, sender{}, err
	}
	from, err := parseControl(s.control[:control], time.Now())
	return s.buffer[:n], from, err
}

// parseControl returns the sender from the control messages of a datagram. now is the time when the datagram was read.
func parseControl(control []byte, now time.Time) (sender, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return sender{}, fmt.Errorf("control messages: %w", err)
	}
	var from sender
	for _, m := range messages {
		switch {
		case m.Header.Level != unix.SOL_SOCKET:
		case m.Header.Type == unix.SCM_CREDENTIALS:
			credentials, err := unix.ParseUnixCredentials(&m)
			if err != nil {
				return sender{}, fmt.Errorf("credentials: %w", err)
			}
			from.pid, from.uid = int(credentials.Pid), credentials.Uid
		case m.Header.Type == unix.SO_TIMESTAMPNS_NEW && len(m.Data) >= timespecSize:
			sent := time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			if from.at, err = sinceBoot(sent, now); err != nil {
				return sender{}, err
			}
		}
	}
	return from, nil
}

// sinceBoot converts a recent wall clock time to the time since boot, which is the clock of the start times in /proc.
func sinceBoot(at, now time.Time) (time.Duration, error) {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return 0, fmt.Errorf("time since boot: %w", err)
	}
	return time.Duration(boot.Nano()) - max(0, now.Round(0).Sub(at)), nil
}
