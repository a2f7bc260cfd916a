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
)

// children are this process's own: the verbs that run and, since it is their child subreaper, what they left behind.
type children struct {
	mu        sync.Mutex
	running   map[int]bool // process ids of verbs that are not reaped; orphans are not among them
	strangers map[int]bool // children that were there first, of what this process was before; left alone, as zombies too
	ended     func(pid int) error
}

// spares reports whether a child is none of a verb's: it was there first, or this process itself started it, as packages
// do that run a program of the host. Such a child is in the session of this process. A verb gets a session of its own, and
// no process can enter a session that exists already, so whatever a verb leaves behind is in another one.
func (c *children) spares(pid int) bool {
	if c.strangers[pid] {
		return true
	}
	own, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	session, err := unix.Getsid(pid)
	return err == nil && session == own
}

// childrenOfThis are all children of this process, zombies too.
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
// PR_SET_CHILD_SUBREAPER): a daemon that a mad executable forks cannot hide at PID 1.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// keepDescriptors keeps what this process itself inherited (a shell's descriptors, systemd's) from the executables. Those that
// Go opens are closed on exec already. A kernel before 5.11 cannot (close_range(2)): they are then inherited, as ever.
func keepDescriptors() {
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
}

// killFamily kills the verb, its process group, its descendants, and the orphans that carry its environment. It repeats
// until it finds nothing that lives, since a process can fork between being seen and being killed. After a verb that ended
// by itself the search through all processes is made only if there is an orphan at all.
func (c *children) killFamily(pid int, call *Call, endedItself bool) {
	_ = unix.Kill(-pid, unix.SIGKILL)
	if endedItself && !c.haveOrphans() {
		return
	}
	for range 100 {
		_ = unix.Kill(-pid, unix.SIGKILL)
		alive := 0
		for _, p := range family(pid, c.orphanOf(call)) {
			if unix.Kill(p, unix.SIGKILL) == nil {
				alive++
			}
		}
		if alive == 0 {
			return
		}
	}
}

// haveOrphans reports whether this process has a child that is neither a verb nor spared. The kernel gives an orphan to the
// first living thread of its new parent, which is the main thread (find_new_reaper in the kernel; the Go runtime never ends
// that thread). So one list is enough (proc(5), /proc/PID/task/TID/children). Where the kernel has no such list, it
// reports true.
func (c *children) haveOrphans() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := os.ReadFile(mainThreadChildren)
	if err != nil {
		return true
	}
	for _, word := range strings.Fields(string(list)) {
		if pid, err := strconv.Atoi(word); err != nil || !c.running[pid] && !c.spares(pid) {
			return true
		}
	}
	return false
}

var mainThreadChildren = fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())

// orphanOf tells which adopted process belongs to a call: it carries the call's environment. One that has hidden its own
// belongs to nobody; it dies when no other verb runs.
func (c *children) orphanOf(call *Call) func(pid int) bool {
	return func(pid int) bool {
		c.mu.Lock()
		verb, others := c.running[pid], len(c.running) > 1
		c.mu.Unlock()
		if verb || c.spares(pid) {
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

// reap collects the verb, which has ended, and every orphan that has. From the moment that the process id is free to the
// moment that it is forgotten no other verb may start: it could get the same one.
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
	// Two verbs that end together each take the other for one that runs, and spare who hides its environment. Now none runs,
	// nor starts.
	for range 100 {
		if len(c.running) > 0 {
			break
		}
		orphans := family(-1, func(pid int) bool { return !c.spares(pid) })
		for _, p := range orphans {
			_ = unix.Kill(p, unix.SIGKILL)
		}
		if len(orphans) == 0 {
			break
		}
	}
	for _, p := range processes() {
		if p.parent == os.Getpid() && p.zombie && !c.running[p.pid] && !c.spares(p.pid) {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	}
	return state
}

// family lists the living descendants of pid, and those of each adopted process that isOrphan accepts.
func family(pid int, isOrphan func(int) bool) []int {
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

// tick is the unit of the times in /proc/PID/stat (sysconf(_SC_CLK_TCK) is 100 on Linux).
const tick = time.Second / 100

// used is the processor time of a process and of its descendants. The time of a descendant counts as long as it lives and,
// when its parent has waited for it, as long as that one lives.
func used(pid int) time.Duration {
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

type processEntry struct {
	pid, parent int
	zombie      bool
	used        time.Duration // processor time, with that of the children that it has waited for
}

// processes reads /proc. A process that ends meanwhile is left out.
func processes() []processEntry {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []processEntry
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		// "pid (comm) state ppid …": comm may hold anything, so count from the last parenthesis (proc(5)).
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
