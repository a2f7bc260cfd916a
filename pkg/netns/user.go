package netns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/ownthread"
)

// ErrNoUserNamespaces means that the kernel, a limit (sysctl user.max_user_namespaces) or a security policy of the host refused to
// make a user namespace.
var ErrNoUserNamespaces = errors.New("the host does not allow user namespaces")

// makeTimeout bounds the helper process of newOwned, which runs for a millisecond or two.
const makeTimeout = 10 * time.Second

// helper runs in the new namespaces. It forbids user namespaces below the new one: in those a process would have all
// capabilities again. Where /proc/sys is read-only that limit stays as it is. It then waits for the end of its stdin.
const helper = `echo 0 >/proc/sys/user/max_user_namespaces; echo ready; read -r _`

// newOwned makes a network namespace that is owned by a new user namespace, and returns the open network namespace, which
// keeps the user namespace. The user namespace maps its id 0 to the user and group id on the host, and belongs to that
// user: UserOf tells by that whose it is.
//
// A process that is root in this user namespace controls its own network namespace and nothing else: CAP_NET_ADMIN of the
// initial user namespace would let it change links in every network namespace (IFLA_TARGET_NETNSID, IFLA_NET_NS_PID).
func newOwned(id uint32) (*os.File, error) {
	var namespace *os.File
	err := ownthread.Do(func() (err error) {
		namespace, err = newOwnedByThread(id)
		return err
	})
	return namespace, err
}

func newOwnedByThread(id uint32) (*os.File, error) {
	if err := becomeOwner(id); err != nil {
		return nil, fmt.Errorf("take user id %d: %w", id, err)
	}
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(id), Size: 1}}
	cmd := exec.Command("/bin/sh", "-c", helper)
	cmd.Dir, cmd.Env = "/", []string{"LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings:                mapping,
		GidMappings:                mapping,
		GidMappingsEnableSetgroups: true,
		Setpgid:                    true,
		Pdeathsig:                  syscall.SIGKILL,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, startError(err)
	}
	stop := time.AfterFunc(makeTimeout, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	var namespace *os.File
	switch {
	case err == nil && line == "ready\n":
		namespace, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	case err == nil || errors.Is(err, io.EOF):
		err = fmt.Errorf("the helper process ended early (%q)", line)
	}
	_ = stdin.Close()
	_ = cmd.Wait() // its exit status says nothing about the namespace
	stop.Stop()
	return namespace, err
}

// startError tells a kernel or host without user namespaces apart from other errors: EINVAL and ENOSYS come from a kernel
// that was built without them, ENOSPC and EUSERS from a limit of user or network namespaces, EPERM from a security policy or
// from a missing capability.
func startError(err error) error {
	for _, code := range []error{unix.EINVAL, unix.ENOSPC, unix.EPERM, unix.EUSERS, unix.ENOSYS} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrNoUserNamespaces, err)
		}
	}
	return err
}

// becomeOwner gives the calling thread an effective user id, which a user namespace that it makes then belongs to, and keeps its
// capabilities, which writing the maps needs. Only raw system calls do that for one thread: Go's own change all threads.
func becomeOwner(id uint32) error {
	const unchanged = ^uintptr(0)
	if _, _, code := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, uintptr(id), unchanged); code != 0 {
		return code
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if _, _, code := unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0); code != 0 {
		return code
	}
	for i := range sets { // the change of the user id has cleared the effective set alone
		sets[i].Effective = sets[i].Permitted
	}
	if _, _, code := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0); code != 0 {
		return code
	}
	return nil
}

// UserOf returns the user id that owns the user namespace of an open network namespace. own reports that it is the user
// namespace of this program, as it is for every namespace that was not made for one user id.
func UserOf(namespace *os.File) (id uint32, own bool, err error) {
	file, err := UserNamespace(namespace)
	if err != nil {
		return 0, false, err
	}
	defer file.Close()
	var theirs, ours unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &theirs); err != nil {
		return 0, false, err
	}
	if err := unix.Stat("/proc/self/ns/user", &ours); err != nil {
		return 0, false, err
	}
	owner, err := unix.IoctlGetUint32(int(file.Fd()), unix.NS_GET_OWNER_UID)
	if err != nil {
		return 0, false, fmt.Errorf("owner of the user namespace: %w", err)
	}
	return owner, theirs.Ino == ours.Ino && theirs.Dev == ours.Dev, nil
}

// UserNamespace opens the user namespace that owns an open network namespace.
func UserNamespace(namespace *os.File) (*os.File, error) {
	fd, err := unix.IoctlRetInt(int(namespace.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return nil, fmt.Errorf("user namespace of the network namespace: %w", err)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "user namespace"), nil
}
