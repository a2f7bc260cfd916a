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

// process is what /proc tells of a process.
type process struct {
	groups  string        // the text of its file cgroup
	started time.Duration // since boot, rounded down to a tick
	exiting bool
}

// tick is the unit of time in /proc/<pid>/stat. USER_HZ is 100 on every architecture that Go has for Linux.
const tick = 10 * time.Millisecond

// findProcess reads the process that has a pid now. Its files are read below one open directory: that of a process
// that has ended has no files, also when its pid is in use again. So all values are of one process.
func findProcess(pid int) (process, error) {
	if pid <= 0 {
		return process{}, errors.New("the sender is not visible in the supervisor's pid namespace")
	}
	dir, err := os.OpenRoot("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return process{}, goneOr(err)
	}
	defer dir.Close()
	groups, err := dir.ReadFile("cgroup")
	if err != nil {
		return process{}, goneOr(err)
	}
	// After the control groups: what is not exiting now was not exiting when they were read.
	stat, err := dir.ReadFile("stat")
	if err != nil {
		return process{}, goneOr(err)
	}
	p, err := parseStat(string(stat))
	p.groups = string(groups)
	return p, err
}

func goneOr(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return errGone
	}
	return fmt.Errorf("identify the sender: %w", err)
}

// pfExiting is PF_EXITING of the kernel's task flags: set before a process leaves its control groups.
const pfExiting = 0x4

// parseStat reads the fields of proc_pid_stat(5) behind the name of the program, which may hold anything: state is
// the third, flags the ninth, starttime the 22nd.
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
