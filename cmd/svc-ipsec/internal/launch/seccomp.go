package launch

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) that create a namespace.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Offsets in struct seccomp_data. Those of arguments are the offsets of the low 32 bits on little-endian machines.
const (
	systemCall    = 0
	firstArgument = 16
	thirdArgument = 32
)

// allow is the result of a filter that permits the system call.
const allow = uint32(unix.SECCOMP_RET_ALLOW)

// deny returns the result of a filter that makes the system call fail with code.
func deny(code unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(code) }

// noNewNamespaces denies clone calls that create a namespace, because a process has all capabilities in a new user
// namespace. RestrictNamespaces= of the unit must allow user, network and mount namespaces, because it also applies to
// the setns(2) calls of nsenter. The unit itself denies unshare(2). clone3(2) passes its flags in memory, which a
// filter cannot read. It fails with ENOSYS, so that the C library uses clone(2) instead.
var noNewNamespaces = []bpf.Instruction{
	bpf.LoadAbsolute{Off: systemCall, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_CLONE3, SkipTrue: 3},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLONE, SkipTrue: 4},
	bpf.LoadAbsolute{Off: firstArgument, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: newNamespaces, SkipTrue: 1, SkipFalse: 2},
	bpf.RetConstant{Val: deny(unix.ENOSYS)},
	bpf.RetConstant{Val: deny(unix.EPERM)},
	bpf.RetConstant{Val: allow},
}

// fewNetlinkProtocols allows only the netlink protocols for links, routes and XFRM. With CAP_NET_ADMIN in a user
// namespace a process can also use nf_tables, connection tracking and generic netlink. pluto does not use them, and an
// attacker who controls pluto could attack the kernel through them. pluto treats this error as a kernel without the
// protocol. It tries NETLINK_AUDIT.
var fewNetlinkProtocols = []bpf.Instruction{
	bpf.LoadAbsolute{Off: systemCall, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_SOCKET, SkipTrue: 6},
	bpf.LoadAbsolute{Off: firstArgument, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.AF_NETLINK, SkipTrue: 4},
	bpf.LoadAbsolute{Off: thirdArgument, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NETLINK_ROUTE, SkipTrue: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NETLINK_XFRM, SkipTrue: 1},
	bpf.RetConstant{Val: deny(unix.EPROTONOSUPPORT)},
	bpf.RetConstant{Val: allow},
}

// restrictCalls installs the system call filters that cannot be set in the unit. They apply to this process and to the
// programs that it executes.
func restrictCalls() error {
	if cpu.IsBigEndian {
		return errors.New("restrict system calls: not supported on big-endian machines")
	}
	for _, filter := range [][]bpf.Instruction{noNewNamespaces, fewNetlinkProtocols} {
		if err := install(filter); err != nil {
			return fmt.Errorf("restrict system calls: %w", err)
		}
	}
	return nil
}

func install(instructions []bpf.Instruction) error {
	program, err := bpf.Assemble(instructions)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// TSYNC applies the filter to all threads, because Go may call execve from any of them.
	_, _, code := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&fprog)))
	if code != 0 {
		return code
	}
	return nil
}
