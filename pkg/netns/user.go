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

// ErrNoUserNamespaces means that the kernel, a limit (sysctl user.max_user_namespaces) or a security policy of the host
// refused to make a user namespace.
var ErrNoUserNamespaces = errors.New("the host does not allow user namespaces")

// helperTimeout bounds the run time of newOwned's helper process, which normally takes a millisecond or two.
const helperTimeout = 10 * time.Second

// helper is the script that runs in the new namespaces. It forbids user namespaces below the new one, because a process
// in such a namespace would have all capabilities again. If /proc/sys is read-only, the limit is not changed. The
// script then waits until its stdin is closed.
const helper = `echo 0 >/proc/sys/user/max_user_namespaces; echo ready; read -r _`

// newOwned makes a network namespace that is owned by a new user namespace, and returns the open network namespace,
// which keeps the user namespace alive. The user namespace maps its user id 0 and its group id 0 to id on the host. It
// is owned by the user with that id, which UserOf returns.
//
// A process that is root in this user namespace controls its own network namespace only. With CAP_NET_ADMIN in the
// initial user namespace it could change links in every network namespace (IFLA_TARGET_NETNSID, IFLA_NET_NS_PID).
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
	stop := time.AfterFunc(helperTimeout, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	var namespace *os.File
	switch {
	case err == nil && line == "ready\n":
		namespace, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	case err == nil || errors.Is(err, io.EOF):
		err = fmt.Errorf("the helper process ended early (%q)", line)
	}
	_ = stdin.Close()
	_ = cmd.Wait() // the exit status does not matter, because the namespace is already open
	stop.Stop()
	return namespace, err
}

// startError wraps ErrNoUserNamespaces if err means that no user namespace can be made: EINVAL and ENOSYS come from a
// kernel that was built without them, ENOSPC and EUSERS from a limit of user or network namespaces, and EPERM from a
// security policy or a missing capability.
func startError(err error) error {
	for _, code := range []error{unix.EINVAL, unix.ENOSPC, unix.EPERM, unix.EUSERS, unix.ENOSYS} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrNoUserNamespaces, err)
		}
	}
	return err
}

// becomeOwner sets the effective user id of the calling thread, so that a user namespace that it makes is owned by that
// user. It keeps the capabilities of the thread, which are needed to write the id maps. It uses raw system calls,
// because the functions of Go's syscall package change all threads.
func becomeOwner(id uint32) error {
	const unchanged = ^uintptr(0)
	if _, _, code := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, uintptr(id), unchanged); code != 0 {
		return code
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	_, _, code := unix.RawSyscall(unix.SYS_CAPGET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	if code != 0 {
		return code
	}
	for i := range sets { // the change of the effective user id cleared the effective set and kept the permitted set
		sets[i].Effective = sets[i].Permitted
	}
	_, _, code = unix.RawSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	if code != 0 {
		return code
	}
	return nil
}

// UserOf returns the id of the user who owns the user namespace that owns an open network namespace. own is true if
// that is the user namespace of this program, as for every namespace that was not made for a user id.
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
