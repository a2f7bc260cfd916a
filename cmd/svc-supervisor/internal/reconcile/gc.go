package reconcile

import (
	"context"
	"encoding/json"
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

// CollectGarbage runs GC of each executable for which it is due: after the start as soon as no name has work left, then
// daily. GC of an executable whose service type is busy is left to the next call.
func (r *Reconciler) CollectGarbage(ctx context.Context) {
	r.mu.Lock()
	allRead := r.claims != nil && r.claims.unread == "" && !r.claims.anyUnread
	r.mu.Unlock()
	if !allRead || !r.queue.idle() {
		return
	}
	executables, _ := r.executables.List()
	for _, e := range executables {
		if time.Since(r.collected[e.Path]) < gcInterval {
			continue
		}
		lock := r.gcLocks.forType(e.Type)
		if !lock.TryLock() {
			continue
		}
		// The list is made while the lock is held. A container that is recorded later waits for the lock before ADD.
		if valid, known := r.validAttachments(); known {
			r.collect(ctx, e, valid)
			r.collected[e.Path] = time.Now()
		}
		lock.Unlock()
	}
}

// validAttachments returns every container that has a record. It returns false while a record cannot be read, because
// GC would remove the container of that record.
func (r *Reconciler) validAttachments() ([]spec.Attachment, bool) {
	valid := []spec.Attachment{}
	for _, name := range r.records.Names() {
		for _, entry := range r.records.Read(name) {
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

func (r *Reconciler) collect(ctx context.Context, e plugin.Executable, valid []spec.Attachment) {
	stdin, err := json.Marshal(spec.Conf{
		CNIVersion: spec.CNIVersion, Name: spec.Network, Type: plugin.CNIType(e.Path), ValidAttachments: &valid,
	})
	if err != nil {
		r.log.Error("GC not run", "path", e.Path, "error", err)
		return
	}
	log := r.logs(e.Type)
	_, err = r.executables.Run(ctx, plugin.Call{
		Executable: e.Path, Verb: spec.GC, ContainerID: spec.Network, Stdin: stdin, Deadline: gcDeadline,
		Stderr: func(line string) { relay(log, spec.GC, line) },
	})
	if err != nil && ctx.Err() == nil {
		log.Warn("GC failed", "path", e.Path, "error", err, "retry", gcInterval)
		return
	}
	log.Debug("executable run", "verb", spec.GC, "path", e.Path, "version", e.Version.String(), "kept", len(valid))
}
