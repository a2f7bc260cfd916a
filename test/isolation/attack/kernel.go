package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelAttempts use interfaces of the kernel that a daemon does not need.
var kernelAttempts = map[string]attempt{
	"nothing":        func([]string) (string, error) { return "", nil },
	"mount":          func(args []string) (string, error) { return "", unix.Mount("none", args[0], "tmpfs", 0, "") },
	"unmount":        func(args []string) (string, error) { return "", unix.Unmount(args[0], 0) },
	"change-root":    func(args []string) (string, error) { return "", unix.Chroot(args[0]) },
	"io-uring":       call(unix.SYS_IO_URING_SETUP, 1, pointer(&ringParameters), 0),
	"userfault":      call(unix.SYS_USERFAULTFD, 1, 0, 0),
	"bpf":            loadFilter,
	"perf":           call(unix.SYS_PERF_EVENT_OPEN, pointer(&perfAttributes), 0, ^uintptr(0), ^uintptr(0), 0),
	"keys":           call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, keySpecUser, 1),
	"shared-memory":  call(unix.SYS_SHMGET, 0x5c0ffee, 4096, ipcCreate|0o600),
	"message-queue":  call(unix.SYS_MSGGET, 0x5c0ffee, ipcCreate|0o600, 0),
	"semaphores":     call(unix.SYS_SEMGET, 0x5c0ffee, 1, ipcCreate|0o600),
	"posix-queue":    posixQueue,
	"writable-code":  writableCode,
	"real-time":      call(unix.SYS_SCHED_SETSCHEDULER, 0, 1, pointer(&priority)),
	"personality":    call(unix.SYS_PERSONALITY, 0x0400000, 0, 0),
	"set-time":       call(unix.SYS_CLOCK_SETTIME, ^uintptr(0), 0, 0),
	"reboot":         call(unix.SYS_REBOOT, 0, 0, 0), // wrong magic numbers: the kernel does nothing
	"load-module":    call(unix.SYS_FINIT_MODULE, ^uintptr(0), pointer(&noParameters), 0),
	"packet-socket":  func([]string) (string, error) { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"alg-socket":     func([]string) (string, error) { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) },
	"vsock-socket":   func([]string) (string, error) { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"raw-socket":     func([]string) (string, error) { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
	"netlink-socket": netlinkSocket,
}

const (
	ipcCreate   = 0o1000
	keySpecUser = ^uintptr(3) // KEY_SPEC_USER_KEYRING, -4
)

func pointer[T any](value *T) uintptr { return uintptr(unsafe.Pointer(value)) }

// Arguments of the system calls. They are package variables, because the garbage collector neither moves nor frees
// these.
var (
	ringParameters [120]byte
	noParameters   [1]byte
	returnProgram        = [2]uint64{0xb7, 0x95} // r0 = 0; exit
	license              = [4]byte{'G', 'P', 'L'}
	queueName            = [7]byte{'a', 't', 't', 'a', 'c', 'k'}
	priority       int32 = 1
	perfAttributes       = unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
	}
)

// call returns an attempt that makes a system call.
func call(number uintptr, arguments ...uintptr) attempt {
	return func([]string) (string, error) {
		var a [6]uintptr
		copy(a[:], arguments)
		if _, _, code := unix.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); code != 0 {
			return "", code
		}
		return "", nil
	}
}

// loadFilter loads a BPF program that does nothing but return 0.
func loadFilter([]string) (string, error) {
	attributes := struct {
		kind, count      uint32
		program, license uint64
		more             [12]uint64
	}{kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, count: 2, program: uint64(pointer(&returnProgram)),
		license: uint64(pointer(&license))}
	_, _, code := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, pointer(&attributes), unsafe.Sizeof(attributes))
	if code != 0 {
		return "", code
	}
	return "", nil
}

func posixQueue([]string) (string, error) {
	const flags = unix.O_RDWR | unix.O_CREAT
	if _, _, code := unix.Syscall6(unix.SYS_MQ_OPEN, pointer(&queueName), flags, 0o600, 0, 0, 0); code != 0 {
		return "", code
	}
	_, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, pointer(&queueName), 0, 0)
	return "", nil
}

func writableCode([]string) (string, error) {
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return "", err
}

func socket(family, kind, protocol int) (string, error) {
	fd, err := unix.Socket(family, kind, protocol)
	if err != nil {
		return "", err
	}
	return "", unix.Close(fd)
}

func netlinkSocket(args []string) (string, error) {
	var protocol int
	if _, err := fmt.Sscan(args[0], &protocol); err != nil {
		return "", err
	}
	return socket(unix.AF_NETLINK, unix.SOCK_RAW, protocol)
}
