package plugin

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/svc-supervisor/svc-supervisor/internal/procids"
)

// children keeps track of the child processes of this process. These are the running verbs and, because this process is
// a child subreaper, their orphaned descendants. Other children are not touched.
type children struct {
	mu      sync.Mutex
	running map[int]bool // process ids of verbs that are not reaped yet; orphans are not included
	// The children that existed before NewInventory: those of the program that this process has replaced by exec.
	preexisting map[int]bool
	waitEnd     func(pid int) error // waits until a verb has ended, without reaping it
}

// isUnrelated reports whether a child has nothing to do with a verb: it existed before NewInventory, or another package
// of this process started it, to run a program of the host. A child of the latter kind is in the session of this
// process. Each verb gets a new session, and a process cannot enter an existing session, so descendants of a verb are
// always in another one.
func (c *children) isUnrelated(pid int) bool {
	if c.preexisting[pid] {
		return true
	}
	own, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	session, err := unix.Getsid(pid)
	return err == nil && session == own
}

// childrenOfThis returns the process ids of all children of this process, including zombies.
func childrenOfThis() map[int]bool {
	pids := map[int]bool{}
	for _, p := range processes() {
		if p.parent == os.Getpid() {
			pids[p.pid] = true
		}
	}
	return pids
}

// adoptOrphans makes this process the parent of every descendant whose own parent ends (prctl(2),
// PR_SET_CHILD_SUBREAPER). Otherwise a daemon that an executable forks would become a child of PID 1 and not be found.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// closeDescriptorsOnExec sets close-on-exec for the file descriptors that this process has inherited, from a shell or
// systemd, so that executables do not inherit them. Descriptors that Go opens have the flag already. A kernel before
// 5.11 cannot do that (close_range(2)); there executables inherit the descriptors.
func closeDescriptorsOnExec() {
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
}

// killTree kills the verb, its process group, its descendants, and the orphans with its environment. It repeats that
// until it finds no running process, because a process can fork before it is killed. If the verb has ended by itself
// and this process has no orphans, it skips the search through all processes.
func (c *children) killTree(pid int, call *Call, endedItself bool) {
	_ = unix.Kill(-pid, unix.SIGKILL)
	if endedItself && !c.haveOrphans() {
		return
	}
	for range 100 {
		_ = unix.Kill(-pid, unix.SIGKILL)
		alive := 0
		for _, p := range descendants(pid, c.orphanOf(call)) {
			if unix.Kill(p, unix.SIGKILL) == nil {
				alive++
			}
		}
		if alive == 0 {
			return
		}
	}
}

// haveOrphans reports whether this process has a child that is neither a verb nor unrelated to verbs. The kernel makes
// an orphan a child of the first living thread of its new parent. That is the main thread (find_new_reaper in the
// kernel), which the Go runtime never ends, so the list of children of that thread is sufficient (proc(5),
// /proc/PID/task/TID/children). haveOrphans returns true if the kernel does not have that file.
func (c *children) haveOrphans() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := os.ReadFile(mainThreadChildren)
	if err != nil {
		return true
	}
	for _, field := range strings.Fields(string(list)) {
		if pid, err := strconv.Atoi(field); err != nil || !c.running[pid] && !c.isUnrelated(pid) {
			return true
		}
	}
	return false
}

var mainThreadChildren = fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())

// orphanOf returns a function that reports whether a child of this process is an orphan of a call. It compares the
// container id and the namespace in the environment of the child. An orphan without these variables cannot be assigned
// to a call, so it counts as an orphan of this call only if no other verb runs.
func (c *children) orphanOf(call *Call) func(pid int) bool {
	return func(pid int) bool {
		c.mu.Lock()
		verb, others := c.running[pid], len(c.running) > 1
		c.mu.Unlock()
		if verb || c.isUnrelated(pid) {
			return false
		}
		environment, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil || !bytes.Contains(environment, []byte("CNI_CONTAINERID=")) {
			return !others
		}
		return bytes.Contains(environment, []byte("CNI_CONTAINERID="+call.ContainerID+"\x00")) &&
			bytes.Contains(environment, []byte("CNI_NETNS="+call.Namespace+"\x00"))
	}
}

// reap waits for the verb, which has ended, and for every orphan that has ended. No other verb may start between the
// wait and the deletion of the process id from running, because it could get the same process id.
func (c *children) reap(process *os.Process) *os.ProcessState {
	c.mu.Lock()
	state, _ := process.Wait()
	delete(c.running, process.Pid)
	c.mu.Unlock()
	if !c.haveOrphans() {
		return state
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// If two verbs end at the same time, each counts the other as running, and so neither kills an orphan without the
	// environment. Here no verb runs, and none can start because the lock is held, so all orphans are killed.
	for range 100 {
		if len(c.running) > 0 {
			break
		}
		orphans := descendants(-1, func(pid int) bool { return !c.isUnrelated(pid) })
		for _, p := range orphans {
			_ = unix.Kill(p, unix.SIGKILL)
		}
		if len(orphans) == 0 {
			break
		}
	}
	for _, p := range processes() {
		if p.parent == os.Getpid() && p.zombie && !c.running[p.pid] && !c.isUnrelated(p.pid) {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	}
	return state
}

// descendants lists the running descendants of pid, and the children of this process that isOrphan accepts with their
// descendants.
func descendants(pid int, isOrphan func(int) bool) []int {
	all := processes()
	var found []int
	wanted := map[int]bool{pid: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if wanted[p.pid] || p.zombie {
				continue
			}
			if wanted[p.parent] || p.parent == os.Getpid() && isOrphan(p.pid) {
				wanted[p.pid] = true
				found = append(found, p.pid)
				grown = true
			}
		}
	}
	return found
}

// tick is the unit of the times in /proc/PID/stat: sysconf(_SC_CLK_TCK) is 100 on Linux.
const tick = time.Second / 100

// processorTime returns the processor time of a process and its descendants. The time of a descendant that has ended
// counts if its parent has waited for it and still exists.
func processorTime(pid int) time.Duration {
	all := processes()
	ours := map[int]bool{pid: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if ours[p.parent] && !ours[p.pid] {
				ours[p.pid], grown = true, true
			}
		}
	}
	var sum time.Duration
	for _, p := range all {
		if ours[p.pid] {
			sum += p.used
		}
	}
	return sum
}

// processEntry describes a process, from /proc/PID/stat.
type processEntry struct {
	pid, parent int
	zombie      bool
	used        time.Duration // processor time, including that of children that the process has waited for
}

// processes lists all processes in /proc. Processes that end meanwhile are left out.
func processes() []processEntry {
	pids, err := procids.All()
	if err != nil {
		return nil
	}
	var list []processEntry
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// "pid (comm) state ppid …": comm may contain any characters, so the fields are counted from the last
		// parenthesis (proc(5)).
		rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(rest) < 2 {
			continue
		}
		parent, err := strconv.Atoi(rest[1])
		if err != nil {
			continue
		}
		entry := processEntry{pid: pid, parent: parent, zombie: rest[0] == "Z"}
		for _, field := range rest[min(11, len(rest)):min(15, len(rest))] { // utime, stime, cutime, cstime
			ticks, _ := strconv.ParseInt(field, 10, 64)
			entry.used += time.Duration(ticks) * tick
		}
		list = append(list, entry)
	}
	return list
}
