package reconcile

import (
	"context"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/report"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// The instance is the publish.Store of the board. Its methods do nothing except ListStatuses, because reporter records
// each status at once.
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

// reporter passes each report to a real board and records each status that differs from the last one. So no status is
// skipped.
type reporter struct{ *instance }

func (l reporter) publish(id spec.ContainerID) {
	status, there := l.board.Status(id)
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

func (l reporter) Host(status spec.HostStatus) {
	l.board.Host(status)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.lastHostStatus = status
}

func (l reporter) Starting(c spec.Container) {
	l.board.Starting(c)
	l.publish(c.ContainerID)
}

func (l reporter) Running(c spec.Container, health *spec.Health, notes ...string) {
	l.board.Running(c, health, notes...)
	l.publish(c.ContainerID)
}

func (l reporter) Unstable(c spec.Container, reason string, failed bool) {
	l.board.Unstable(c, reason, failed)
	l.publish(c.ContainerID)
}

func (l reporter) Pushed(id spec.ContainerID, connections []spec.Connection) {
	l.board.Pushed(id, connections)
	l.publish(id)
}

func (l reporter) Checked(id spec.ContainerID, connections []spec.Connection) {
	l.board.Checked(id, connections)
	l.publish(id)
}

func (l reporter) ChangeFailed(c spec.Container, reason string) {
	l.board.ChangeFailed(c, reason)
	l.publish(c.ContainerID)
}

func (l reporter) Failing(c spec.Container, problem report.Problem) {
	l.board.Failing(c, problem)
	l.publish(c.ContainerID)
}

func (l reporter) Stopping(c spec.Container) {
	l.board.Stopping(c)
	l.publish(c.ContainerID)
}

func (l reporter) Remove(id spec.ContainerID) {
	l.board.Remove(id)
	l.publish(id)
}

func (l reporter) Prune(ctx context.Context, keep func(spec.ContainerID) bool) error {
	published, _ := l.ListStatuses(ctx)
	err := l.board.Prune(ctx, keep)
	for id := range published {
		if _, known := l.board.Status(id); !known && !keep(id) {
			l.publish(id)
		}
	}
	return err
}
