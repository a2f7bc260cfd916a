package unit

import (
	"fmt"
	"path"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// success is systemd's Result of a service that ended without a failure, or has not ended.
const success = "success"

// The ways in which a process ends (waitid(2), si_code).
const (
	exited = 1
	killed = 2
	dumped = 3
)

// Exit describes how a service ended, with systemd's terms (org.freedesktop.systemd1(5), Result and ExecMain*). The
// zero Exit has no information.
type Exit struct {
	// Result is success, exit-code, signal, core-dump, timeout, watchdog, protocol, resources, start-limit-hit or
	// oom-kill.
	Result  string
	Program string // the command of ExecStartPre= that failed; "" for the main process
	Code    int    // si_code: 1 exited, 2 killed, 3 dumped core; 0: no process ran
	Status  int    // exit status or signal number
}

// Failed reports whether systemd considers the service failed.
func (e Exit) Failed() bool { return e.Result != "" && e.Result != success }

// exitStatusNames has the names of the exit statuses that systemd itself uses between fork and exec (systemd.exec(5),
// "Process exit codes").
var exitStatusNames = map[int]string{
	200: "CHDIR", 202: "FDS", 203: "EXEC", 209: "STDOUT", 210: "CHROOT", 216: "GROUP", 217: "USER",
	218: "CAPABILITIES", 219: "CGROUP", 225: "NETWORK", 226: "NAMESPACE", 227: "NO_NEW_PRIVILEGES", 228: "SECCOMP",
	230: "PERSONALITY", 232: "ADDRESS_FAMILIES", 233: "RUNTIME_DIRECTORY", 238: "STATE_DIRECTORY", 243: "CREDENTIALS",
}

// String describes the exit in one line, for example "exit-code: status 203 (EXEC)".
func (e Exit) String() string {
	parts := []string{e.Result}
	if e.Program != "" {
		parts = append(parts, e.Program)
	}
	switch name := exitStatusNames[e.Status]; {
	case e.Result == "protocol":
		parts = append(parts, "the program ended before it was ready")
	case e.Code == exited && name != "":
		parts = append(parts, fmt.Sprintf("status %d (%s)", e.Status, name))
	case e.Code == exited:
		parts = append(parts, fmt.Sprintf("status %d", e.Status))
	case e.Code == killed || e.Code == dumped:
		parts = append(parts, unix.SignalName(unix.Signal(e.Status)))
	}
	return strings.Join(parts, ": ")
}

// exitOf reads an Exit from the properties of a service.
func exitOf(properties map[string]any) Exit {
	e := Exit{
		Result: propertyValue[string](properties, "Result"),
		Code:   int(propertyValue[int32](properties, "ExecMainCode")),
		Status: int(propertyValue[int32](properties, "ExecMainStatus")),
	}
	if e.Code != 0 {
		return e
	}
	for _, x := range propertyValue[[]execution](properties, "ExecStartPre") {
		if x.Code != 0 && (x.Code != exited || x.Status != 0) {
			e.Program, e.Code, e.Status = path.Base(x.Path), int(x.Code), int(x.Status)
		}
	}
	return e
}

// propertyValue returns the value of a property. It returns the zero value if the property is missing or has another
// type.
func propertyValue[T any](properties map[string]any, name string) T {
	var v T
	if value, ok := properties[name]; ok {
		_ = dbus.Store([]any{value}, &v)
	}
	return v
}

// execution is a command and its last run in systemd's D-Bus type a(sasbttttuii).
type execution struct {
	Path string
	Args []string

	Ignore                                             bool
	StartRealtime, StartMonotonic, EndReal, EndMonotic uint64

	PID          uint32
	Code, Status int32
}

// StartError is the error of a unit that did not come up.
type StartError struct {
	Unit string
	Job  string // the result of the job: failed, timeout, canceled, dependency, …; "lost" if it is not known
	Exit Exit
}

// Error describes the failure in one line, for example "start svc-a.service: job failed: exit-code: status 4".
func (e *StartError) Error() string {
	text := "start " + e.Unit + ": job " + e.Job
	if e.Exit.Result != "" {
		text += ": " + e.Exit.String()
	}
	return text
}
