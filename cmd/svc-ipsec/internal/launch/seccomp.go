package launch

import (
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) that make a namespace.
const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Offsets in struct seccomp_data; the low half of an argument comes first on little-endian machines, the only ones that
// Libreswan's distributions support.
const (
	systemCall    = 0
	firstArgument = 16
)

// denyNewNamespaces makes this thread, and what it executes, unable to make namespaces: in a new user namespace a process
// has all capabilities. RestrictNamespaces= of the unit must allow user, network and mount namespaces, because it also filters the
// setns(2) calls of nsenter; unshare(2) is among the calls that the unit denies. clone3(2) passes its flags in memory, where no
// filter can read them: with ENOSYS the C library uses clone(2).
func denyNewNamespaces() error {
	const deny = unix.SECCOMP_RET_ERRNO
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: systemCall, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_CLONE3, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLONE, SkipTrue: 4},
		bpf.LoadAbsolute{Off: firstArgument, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: newNamespaces, SkipTrue: 1, SkipFalse: 2},
		bpf.RetConstant{Val: deny | uint32(unix.ENOSYS)},
		bpf.RetConstant{Val: deny | uint32(unix.EPERM)},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// TSYNC applies the filter to all threads, because Go may call execve from any of them.
	if _, _, code := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog))); code != 0 {
		return fmt.Errorf("deny new namespaces: %w", code)
	}
	return nil
}
