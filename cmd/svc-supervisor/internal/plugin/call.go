package plugin

import (
	"fmt"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Call is one verb of one executable.
type Call struct {
	Executable  string           // absolute path
	Type        spec.ServiceType // of the executable; only for the caller's metrics
	Verb        spec.Verb
	ContainerID string
	Namespace   string            // path; may be empty on DEL
	Stdin       []byte            // contains secrets, so it must not be logged
	Deadline    time.Duration     // by the clock of package busyclock: it is longer on a busy machine
	Stderr      func(line string) // if not nil, called for each line, in order
	Blocked     func()            // if not nil, called once when the verb has used no processor time for BlockedTime
}

// environment returns exactly the variables of the contract. The variables of the supervisor itself (NOTIFY_SOCKET,
// WATCHDOG_*, …) are not passed on.
func (c *Call) environment(pluginPath []string) []string {
	return []string{
		"CNI_COMMAND=" + string(c.Verb),
		"CNI_CONTAINERID=" + c.ContainerID,
		"CNI_NETNS=" + c.Namespace,
		"CNI_IFNAME=" + spec.InterfaceInside,
		"CNI_PATH=" + strings.Join(pluginPath, ":"),
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C",
	}
}

// NoAnswer is the error of a verb without an answer that can be parsed: the executable did not start, was killed at its
// deadline, ended by a signal, or printed no JSON of the expected form. The state of the container is then unknown.
type NoAnswer struct {
	Reason string   // for example `deadline of 30s` or `signal: killed`
	Stderr []string // the last lines of stderr
}

// Error returns the reason and the last lines of stderr, in one line.
func (e *NoAnswer) Error() string {
	if len(e.Stderr) == 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s: stderr: %s", e.Reason, strings.Join(e.Stderr, " | "))
}
