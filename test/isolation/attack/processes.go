package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// namespaceKinds has the clone flags of the kinds of namespaces, by their names below /proc/<pid>/ns.
var namespaceKinds = map[string]int{
	"user": unix.CLONE_NEWUSER, "mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID,
	"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP,
}

var processAttempts = map[string]attempt{
	"processes":     processes,
	"signal":        ofProcess(func(pid int) error { return unix.Kill(pid, 0) }),
	"trace":         ofProcess(unix.PtraceSeize),
	"read-memory":   ofProcess(readMemory),
	"write-memory":  ofProcess(writeMemory),
	"take-file":     ofProcess(takeFile),
	"limit":         ofProcess(limit),
	"priority":      ofProcess(func(pid int) error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 5) }),
	"enter":         func(args []string) (string, error) { return "", enter(args[0], 0) },
	"enter-kind":    func(args []string) (string, error) { return "", enter(args[1], namespaceKinds[args[0]]) },
	"unshare":       func(args []string) (string, error) { return "", unix.Unshare(namespaceKinds[args[0]]) },
	"clone":         clone,
	"clone3":        clone3,
	"replace-exe":   func(args []string) (string, error) { return "", replaceExe(args[0]) },
	"become-root":   func([]string) (string, error) { return "", unix.Setresuid(0, 0, 0) },
	"become-nobody": func([]string) (string, error) { return "", unix.Setresuid(65534, 65534, 65534) },
	"print":         func(args []string) (string, error) { return "", printLine(args[0]) },
	"identity":      identity,
}

// ofProcess returns an attempt whose first argument is a process id.
func ofProcess(do func(int) error) attempt {
	return func(args []string) (string, error) {
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return "", err
		}
		return "", do(pid)
	}
}

// processes lists the ids of the other processes that are visible in /proc.
func processes([]string) (string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "", err
	}
	var pids []string
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, entry.Name())
		}
	}
	return "has: " + strings.Join(pids, " "), nil
}

func readMemory(pid int) error {
	var byteRead [1]byte
	local := []unix.Iovec{{Base: &byteRead[0], Len: 1}}
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(0x400000), Len: 1}}, 0)
	return err
}

// writeMemory opens the memory of a process for writing. It writes nothing.
func writeMemory(pid int) error {
	_, err := openToWrite([]string{"/proc/" + strconv.Itoa(pid) + "/mem"})
	return err
}

// takeFile duplicates the standard input of a process (pidfd_getfd(2)).
func takeFile(pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(process, 0, 0)
	return err
}

// limit sets a resource limit of a process to its current value.
func limit(pid int) error {
	var current unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &current); err != nil {
		return err
	}
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &current, nil)
}

// enter enters the namespace at a path. kind is its clone flag, or 0 for any kind.
func enter(path string, kind int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Setns(fd, kind)
}

// clone starts a program in a new namespace by clone(2).
func clone(args []string) (string, error) {
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(namespaceKinds[args[0]])}
	return "", cmd.Run()
}

// clone3 starts a process in a new namespace by clone3(2). The process ends at once.
func clone3(args []string) (string, error) {
	arguments := struct{ flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64 }{
		flags: uint64(namespaceKinds[args[0]]), exitSignal: uint64(unix.SIGCHLD)}
	pid, _, code := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&arguments)), unsafe.Sizeof(arguments), 0)
	if code != 0 {
		return "", code
	}
	if pid == 0 {
		for {
			unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
		}
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return "", err
}

// replaceExe replaces the file of /proc/self/exe, as programs for checkpoint and restore do.
func replaceExe(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_EXE_FILE, uintptr(fd), 0, 0)
}

// printLine prints a line to the log of the unit.
func printLine(line string) error {
	_, err := os.Stderr.WriteString(line + "\n")
	return err
}

// identity returns the user ids, groups, capabilities and further rights of this process.
func identity([]string) (string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", err
	}
	var fields []string
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
			fields = append(fields, key+"="+strings.Join(strings.Fields(value), ","))
		}
	}
	return strings.Join(fields, " "), nil
}
