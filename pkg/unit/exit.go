package unit

import (
	"fmt"
	"path"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// success is systemd's Result of a service that ended well, or has not ended.
const success = "success"

// The ways in which a process ends (waitid(2), si_code).
const (
	exited = 1
	killed = 2
	dumped = 3
)

// Exit is how a service ended, in systemd's terms (org.freedesktop.systemd1(5), Result and ExecMain*). The zero Exit says
// nothing.
type Exit struct {
	Result  string // success, exit-code, signal, core-dump, timeout, watchdog, protocol, resources, start-limit-hit, oom-kill
	Program string // the command of ExecStartPre= that failed; "" for the main process
	Code    int    // si_code: 1 exited, 2 killed, 3 dumped core; 0: no process ran
	Status  int    // exit status or signal number
}

// Failed says that systemd has a reason to call the service failed.
func (e Exit) Failed() bool { return e.Result != "" && e.Result != success }

// statuses names what systemd itself exits with between fork and exec (systemd.exec(5), "Process exit codes").
var statuses = map[int]string{
	200: "CHDIR", 202: "FDS", 203: "EXEC", 209: "STDOUT", 210: "CHROOT", 216: "GROUP", 217: "USER",
	218: "CAPABILITIES", 219: "CGROUP", 225: "NETWORK", 226: "NAMESPACE", 227: "NO_NEW_PRIVILEGES", 228: "SECCOMP",
	230: "PERSONALITY", 232: "ADDRESS_FAMILIES", 233: "RUNTIME_DIRECTORY", 238: "STATE_DIRECTORY", 243: "CREDENTIALS",
}

// String is one line: "exit-code: status 203 (EXEC)".
func (e Exit) String() string {
	parts := []string{e.Result}
	if e.Program != "" {
		parts = append(parts, e.Program)
	}
	switch name := statuses[e.Status]; {
	case e.Result == "protocol":
		parts = append(parts, "it ended before it was ready")
	case e.Code == exited && name != "":
		parts = append(parts, fmt.Sprintf("status %d (%s)", e.Status, name))
	case e.Code == exited:
		parts = append(parts, fmt.Sprintf("status %d", e.Status))
	case e.Code == killed || e.Code == dumped:
		parts = append(parts, unix.SignalName(unix.Signal(e.Status)))
	}
	return strings.Join(parts, ": ")
}

// exitOf reads an Exit from properties of a service.
func exitOf(properties map[string]dbus.Variant) Exit {
	e := Exit{
		Result: value[string](properties, "Result"),
		Code:   int(value[int32](properties, "ExecMainCode")),
		Status: int(value[int32](properties, "ExecMainStatus")),
	}
	if e.Code != 0 {
		return e
	}
	for _, x := range value[[]execution](properties, "ExecStartPre") {
		if x.Code != 0 && (x.Code != exited || x.Status != 0) {
			e.Program, e.Code, e.Status = path.Base(x.Path), int(x.Code), int(x.Status)
		}
	}
	return e
}

// value is one property, or zero where systemd did not send it in this form.
func value[T any](properties map[string]dbus.Variant, name string) T {
	var v T
	if variant, ok := properties[name]; ok {
		_ = variant.Store(&v)
	}
	return v
}

// execution is one command with its last run, as systemd lists it: a(sasbttttuii).
type execution struct {
	Path string
	Args []string

	Ignore                                             bool
	StartRealtime, StartMonotonic, EndReal, EndMonotic uint64

	PID          uint32
	Code, Status int32
}

// StartError says why a unit did not come up.
type StartError struct {
	Unit string
	Job  string // the job's result: failed, timeout, canceled, dependency, …
	Exit Exit
}

// Error is one line: "start svc-a.service: job failed: exit-code: status 4".
func (e *StartError) Error() string {
	text := "start " + e.Unit + ": job " + e.Job
	if e.Exit.Result != "" {
		text += ": " + e.Exit.String()
	}
	return text
}
