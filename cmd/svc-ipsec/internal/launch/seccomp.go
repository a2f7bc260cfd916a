package launch

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) that make a namespace.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Offsets in struct seccomp_data, of the low half of an argument on little-endian machines.
const (
	systemCall    = 0
	firstArgument = 16
	thirdArgument = 32
)

// allow and deny(…) are the results of a filter.
const allow = uint32(unix.SECCOMP_RET_ALLOW)

func deny(code unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(code) }

// noNewNamespaces denies making namespaces: in a new user namespace a process has all capabilities. RestrictNamespaces= of the unit
// must allow user, network and mount namespaces, because it also filters the setns(2) calls of nsenter; unshare(2) is among the
// calls that the unit denies. clone3(2) passes its flags in memory, where no filter can read them: with ENOSYS the C library
// uses clone(2).
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

// fewNetlinkProtocols allows netlink for links, routes and XFRM alone. CAP_NET_ADMIN in a user namespace opens nf_tables,
// connection tracking and generic netlink too, which pluto does not use: code of the kernel that an attacker would try next.
// pluto takes this error as a kernel without the protocol (it looks for NETLINK_AUDIT).
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

// restrictCalls gives this program, and what it executes, the filters that the unit cannot have.
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
