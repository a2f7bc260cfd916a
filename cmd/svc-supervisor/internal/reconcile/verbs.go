package reconcile

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

// verbs runs the verbs of containers.
type verbs struct {
	plugins interface {
		Run(context.Context, plugin.Call) ([]byte, error)
	}
	path     func(spec.Name) string // returns the path of a container's namespace
	deadline time.Duration
	permits  *permits
	locks    *gcLocks
	events   *eventChecks
	logs     func(spec.ServiceType) *slog.Logger // returns the logger of a service type
}

// noConfiguration is the last valid configuration of a container that has none.
var noConfiguration = json.RawMessage("{}")

// run runs one verb for the container of a record.
func (v *verbs) run(
	ctx context.Context, verb spec.Verb, e plugin.Executable, record *statedir.Record,
) ([]byte, error) {
	c := record.Container
	conf := *record.Conf
	conf.Type = plugin.CNIType(e.Path)
	if verb != spec.Add {
		conf.PrevResult = record.Result
	} else if e.LastValid {
		conf.LastValid = noConfiguration
		if last := record.LastValid(); last != nil && len(last.Configuration) > 0 {
			conf.LastValid = last.Configuration
		}
	}
	stdin, err := json.Marshal(&conf)
	if err != nil {
		return nil, err
	}
	defer v.events.begin(c.InterfaceName, verb)()
	return v.runFor(ctx, c, verb, e, v.path(c.InterfaceName), stdin)
}

// runFor runs one verb and logs its duration and outcome. Verbs of one service type share a lock that GC holds
// exclusively.
func (v *verbs) runFor(
	ctx context.Context, c spec.Container, verb spec.Verb, e plugin.Executable, namespace string, stdin []byte,
) ([]byte, error) {
	log := v.logs(c.ServiceType).With("container", c.InterfaceName)
	lock := v.locks.forType(e.Type)
	lock.RLock()
	defer lock.RUnlock()
	blocked, end := v.permits.verb(c.InterfaceName)
	defer end()
	begin := time.Now()
	stdout, err := v.plugins.Run(ctx, plugin.Call{
		Executable: e.Path, Type: e.Type, Verb: verb, ContainerID: string(c.ContainerID),
		Namespace: namespace, Stdin: stdin, Deadline: v.deadline,
		Stderr:  func(line string) { relay(log, verb, line) },
		Blocked: blocked,
	})
	outcome := "ok"
	if err != nil {
		outcome = err.Error()
	}
	log.Debug("executable run", "verb", verb, "path", e.Path, "version", e.Version.String(),
		"duration", time.Since(begin).Round(time.Millisecond), "outcome", outcome)
	return stdout, err
}
