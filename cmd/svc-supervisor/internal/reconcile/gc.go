package reconcile

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/statedir"
)

const (
	gcInterval = 24 * time.Hour
	gcDeadline = 5 * time.Second
)

// gcLocks keeps GC from running beside other verbs of the same service type (CNI 1.1, GC). The other verbs share the
// lock; GC holds it exclusively. The lock is per type, because two versions of a plugin keep their containers in one
// place, and GC of one version must not remove a container that the other version is creating. GC never waits for the
// lock, so a verb that hangs delays no other.
type gcLocks struct {
	mu    sync.Mutex
	locks map[spec.ServiceType]*sync.RWMutex
}

func (q *gcLocks) forType(t spec.ServiceType) *sync.RWMutex {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.locks == nil {
		q.locks = map[spec.ServiceType]*sync.RWMutex{}
	}
	if q.locks[t] == nil {
		q.locks[t] = new(sync.RWMutex)
	}
	return q.locks[t]
}

// collector runs GC. It is used by one goroutine.
type collector struct {
	records interface {
		Names() []spec.Name
		Read(spec.Name) []statedir.Entry
	}
	plugins interface {
		List() ([]plugin.Executable, []plugin.Refusal)
		Run(context.Context, plugin.Call) ([]byte, error)
	}
	locks     *gcLocks
	log       *slog.Logger
	logs      func(spec.ServiceType) *slog.Logger // returns the logger of a service type
	collected map[string]time.Time                // when GC of each executable ran
}

// collectAll runs GC of each executable for which it is due, unless its service type is busy.
func (g *collector) collectAll(ctx context.Context) {
	executables, _ := g.plugins.List()
	for _, e := range executables {
		if time.Since(g.collected[e.Path]) < gcInterval {
			continue
		}
		lock := g.locks.forType(e.Type)
		if !lock.TryLock() {
			continue
		}
		// The list is made while the lock is held. A container that is recorded later waits for the lock before ADD.
		if valid, known := g.validAttachments(); known {
			g.collect(ctx, e, valid)
			g.collected[e.Path] = time.Now()
		}
		lock.Unlock()
	}
}

// validAttachments returns every container that has a record. It returns false while a record cannot be read, because
// GC would remove the container of that record.
func (g *collector) validAttachments() ([]spec.Attachment, bool) {
	valid := []spec.Attachment{}
	for _, name := range g.records.Names() {
		for _, entry := range g.records.Read(name) {
			if entry.Record == nil {
				return nil, false
			}
			if entry.Record.Phase == statedir.Deleted {
				continue
			}
			valid = append(valid, spec.Attachment{
				ContainerID: entry.Record.Container.ContainerID, IfName: spec.InterfaceInside,
			})
		}
	}
	return valid, true
}

// collect runs GC of one executable.
func (g *collector) collect(ctx context.Context, e plugin.Executable, valid []spec.Attachment) {
	stdin, err := json.Marshal(spec.Conf{
		CNIVersion: spec.CNIVersion, Name: spec.Network, Type: plugin.CNIType(e.Path), ValidAttachments: &valid,
	})
	if err != nil {
		g.log.Error("GC not run", "path", e.Path, "error", err)
		return
	}
	log := g.logs(e.Type)
	_, err = g.plugins.Run(ctx, plugin.Call{
		Executable: e.Path, Type: e.Type, Verb: spec.GC, ContainerID: spec.Network, Stdin: stdin, Deadline: gcDeadline,
		Stderr: func(line string) { relay(log, spec.GC, line) },
	})
	if err != nil && ctx.Err() == nil {
		log.Warn("GC failed", "path", e.Path, "error", err, "retry", gcInterval)
		return
	}
	log.Debug("executable run", "verb", spec.GC, "path", e.Path, "version", e.Version.String(), "kept", len(valid))
}
