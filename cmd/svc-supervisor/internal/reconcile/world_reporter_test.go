package reconcile

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The instance is the publish.Store of the publisher. Its methods do nothing except ListStatuses, because reporter
// records each status at once.
func (l *instance) EncodeHost(spec.HostStatus) ([]byte, error)                { return nil, nil }
func (l *instance) EncodeContainer(spec.ContainerStatus) ([]byte, error)      { return nil, nil }
func (l *instance) PutStatus(context.Context, spec.ContainerID, []byte) error { return nil }
func (l *instance) DeleteStatus(context.Context, spec.ContainerID) error      { return nil }
func (l *instance) SessionChanged() <-chan struct{}                           { return nil }
func (l *instance) ListStatuses(context.Context) (map[spec.ContainerID][]byte, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.faults.published != nil {
		return nil, l.w.faults.published
	}
	listed := map[spec.ContainerID][]byte{}
	for id := range l.w.published {
		listed[id] = nil
	}
	return listed, nil
}

// reporter passes each report to a real StatusPublisher and records each status that differs from the last one. So no
// status is skipped.
type reporter struct{ *instance }

func (l reporter) publish(id spec.ContainerID) {
	status, there := l.publisher.Status(id)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	last, was := l.w.published[id]
	if l.dead {
		return
	}
	if was && there && last.Code == status.Code && last.Message == status.Message {
		l.w.published[id] = status // its connections may have changed
		return
	}
	if !was && !there {
		return
	}
	if !there {
		delete(l.w.published, id)
		l.w.statusHistory[id] = append(l.w.statusHistory[id], "removed")
		return
	}
	l.w.published[id] = status
	entry := string(status.Code)
	if status.Message != "" {
		entry += " (" + status.Message + ")"
	}
	l.w.statusHistory[id] = append(l.w.statusHistory[id], entry)
}

func (l reporter) SetHost(status spec.HostStatus) {
	l.publisher.SetHost(status)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.lastHostStatus = status
}

func (l reporter) Set(c spec.Container, code spec.StatusCode, message string, health *spec.Health) {
	l.publisher.Set(c, code, message, health)
	l.publish(c.ContainerID)
}

func (l reporter) MergeConnections(id spec.ContainerID, connections []spec.Connection) {
	l.publisher.MergeConnections(id, connections)
	l.publish(id)
}

func (l reporter) ReplaceConnections(id spec.ContainerID, connections []spec.Connection) {
	l.publisher.ReplaceConnections(id, connections)
	l.publish(id)
}

func (l reporter) Remove(id spec.ContainerID) {
	l.publisher.Remove(id)
	l.publish(id)
}

func (l reporter) Prune(ctx context.Context, keep func(spec.ContainerID) bool) error {
	published, _ := l.ListStatuses(ctx)
	err := l.publisher.Prune(ctx, keep)
	for id := range published {
		if _, known := l.publisher.Status(id); !known && !keep(id) {
			l.publish(id)
		}
	}
	return err
}
