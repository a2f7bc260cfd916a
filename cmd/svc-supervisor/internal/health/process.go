package health

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process describes a process, from its files in /proc.
type process struct {
	groups  string        // the text of the file cgroup
	started time.Duration // the start time since boot, rounded down to a tick
	exiting bool
}

// tick is the unit of time in /proc/<pid>/stat. USER_HZ is 100 on every architecture that Go has for Linux.
const tick = 10 * time.Millisecond

// findProcess reads the files of the process that has the pid now. It opens the directory once and reads the files
// below it, so all values are of one process: when a process ends, its open directory has no files any more, also if
// the pid is in use again.
func findProcess(pid int) (process, error) {
	if pid <= 0 {
		return process{}, errors.New("the sender is not visible in the supervisor's pid namespace")
	}
	dir, err := os.OpenRoot("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return process{}, processError(err)
	}
	defer dir.Close()
	groups, err := dir.ReadFile("cgroup")
	if err != nil {
		return process{}, processError(err)
	}
	// stat is read after cgroup: a process that is not exiting now was not exiting when its control groups were read.
	stat, err := dir.ReadFile("stat")
	if err != nil {
		return process{}, processError(err)
	}
	p, err := parseStat(string(stat))
	p.groups = string(groups)
	return p, err
}

// processError returns errGone if err means that the process has ended, and a wrapped err otherwise.
func processError(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return errGone
	}
	return fmt.Errorf("identify the sender: %w", err)
}

// pfExiting is PF_EXITING of the kernel's task flags. The kernel sets it before a process leaves its control groups.
const pfExiting = 0x4

// parseStat parses a file of proc_pid_stat(5): state is the third field, flags the ninth, starttime the 22nd. It starts
// after the last closing bracket, because the second field is the name of the program and may contain any characters.
func parseStat(stat string) (process, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return process{}, fmt.Errorf("identify the sender: stat has %d fields", len(fields))
	}
	flags, flagsErr := strconv.ParseUint(fields[9-3], 10, 64)
	ticks, ticksErr := strconv.ParseInt(fields[22-3], 10, 64)
	if err := errors.Join(flagsErr, ticksErr); err != nil {
		return process{}, fmt.Errorf("identify the sender: stat: %w", err)
	}
	return process{
		started: time.Duration(ticks) * tick,
		exiting: flags&pfExiting != 0 || fields[0] == "Z" || fields[0] == "X",
	}, nil
}
