package plugin

import (
	"fmt"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Call is one verb of one executable.
type Call struct {
	Executable  string // absolute path
	Verb        spec.Verb
	ContainerID string
	Namespace   string            // path, may be empty on DEL
	Stdin       []byte            // carries secrets: never logged
	Deadline    time.Duration     // by the clock of package patience; the verb's processor time counts for a fifth
	Stderr      func(line string) // called for each line, in order
	Blocked     func()            // if not nil, called once when the verb used no processor for BlockedTime
}

// environment is exactly what the contract says: nothing of the supervisor's own (NOTIFY_SOCKET, WATCHDOG_*, …) gets in.
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

// NoAnswer is the error of a verb that said nothing that can be understood: it did not start, hit its deadline, died of a
// signal, or printed no JSON of the kind that was due. The state of the container is then unknown.
type NoAnswer struct {
	Reason string   // deadline of 30 s, killed by signal …
	Stderr []string // the last lines
}

// Error is one line: the reason and the last words.
func (e *NoAnswer) Error() string {
	if len(e.Stderr) == 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s: stderr: %s", e.Reason, strings.Join(e.Stderr, " | "))
}
