// Package report decides which status of each container is published, and publishes it to the NSDB.
//
// The cluster's scheduler acts on a status: on ERROR, or on STOPPING of a bound container, it moves the container to
// another host. Therefore a problem that may go away by itself is not published; Problem.isError decides that. The
// package guarantees that the latest status of each container is published as soon as the NSDB accepts it, that the
// statuses of a container are published in order, though an old one may be skipped, and that a caller who reports
// a status never waits for the NSDB.
package report

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// HealingTimeout is how long the healing of a container that ran may take before the container is published as ERROR.
const HealingTimeout = time.Minute

// Problem describes why a container that is wanted does not run: ADD failed, or the container is held.
type Problem struct {
	Reason string
	Err    error         // of the failed ADD; nil if the container is held
	Times  int           // number of ADDs in a row that failed
	Ran    bool          // the container ran before, so it is being healed
	For    time.Duration // time since the container stopped running
}

// isError reports whether the problem is published as ERROR. Otherwise the published status stays.
func (p Problem) isError() bool {
	var object *spec.Error
	hasCode := errors.As(p.Err, &object)
	switch {
	case hasCode && object.Code == spec.CodeAgain:
		return false
	case p.Ran:
		return p.For >= HealingTimeout
	case p.Err == nil:
		return true
	case hasCode && object.Code.Verdict():
		return true
	default:
		return p.Times >= 2
	}
}

// Starting reports that the first ADD runs, or the DEL and ADD that heal a container.
func (b *Board) Starting(c spec.Container) {
	b.put(c, spec.ContainerStatus{Code: spec.Starting})
}

// Running reports a settled container. It may have been adopted, or have nothing to run. If health is nil, the health
// is not known yet, and the published connections stay. The message of the status consists of the notes and the message
// of health.
func (b *Board) Running(c spec.Container, health *spec.Health, notes ...string) {
	status := spec.ContainerStatus{Code: spec.Running, NamespaceName: string(c.InterfaceName)}
	messages := slices.Clone(notes)
	if health != nil {
		messages = append(messages, health.Message)
		status.Connections = spec.WithoutCounters(health.Connections)
	} else if last, ok := b.Status(c.ContainerID); ok && last.Code == spec.Running {
		status.Connections = last.Connections // the last message may describe a change that has succeeded since
	}
	status.Message = strings.Join(slices.DeleteFunc(messages, func(m string) bool { return m == "" }), "; ")
	b.put(c, status)
}

// Unstable reports a container that fails repeatedly, while it runs or is recreated. It publishes ERROR if failed is
// set, otherwise RUNNING with the reason as message. The published connections stay while the status is RUNNING.
func (b *Board) Unstable(c spec.Container, reason string, failed bool) {
	if failed {
		b.put(c, spec.ContainerStatus{Code: spec.Failed, Message: reason})
		return
	}
	status := spec.ContainerStatus{Code: spec.Running, NamespaceName: string(c.InterfaceName), Message: reason}
	if last, ok := b.Status(c.ContainerID); ok && last.Code == spec.Running {
		status.Connections = last.Connections
	}
	b.put(c, status)
}

// Pushed updates the given connections in the published status. Nothing else of the status changes. It does nothing
// unless the status of the container is RUNNING.
func (b *Board) Pushed(id spec.ContainerID, connections []spec.Connection) {
	b.updateConnections(id, func(was []spec.Connection) []spec.Connection {
		return (&spec.Health{Connections: was}).With(connections).Connections
	})
}

// Checked replaces the connections in the published status by those that CHECK reported. Like Pushed it changes nothing
// else. It is needed for a container that runs but is not settled, and may not be for a long time.
func (b *Board) Checked(id spec.ContainerID, connections []spec.Connection) {
	b.updateConnections(id, func([]spec.Connection) []spec.Connection { return connections })
}

func (b *Board) updateConnections(id spec.ContainerID, change func([]spec.Connection) []spec.Connection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.containers[id]
	if e == nil || e.status == nil || e.status.Code != spec.Running {
		return
	}
	status := *e.status
	status.Connections = spec.WithoutCounters(change(status.Connections))
	b.setLocked(id, &status)
}

// ChangeFailed reports that ADD on a running container failed. The former configuration still runs, so the status is
// RUNNING.
func (b *Board) ChangeFailed(c spec.Container, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	status := spec.ContainerStatus{Code: spec.Running, NamespaceName: string(c.InterfaceName)}
	if e := b.containers[c.ContainerID]; e != nil && e.status != nil && e.status.Code == spec.Running {
		status = *e.status
	}
	status.HostID, status.InterfaceName = c.HostID, c.InterfaceName
	status.Message = "change failed: " + reason
	b.setLocked(c.ContainerID, &status)
}

// Failing reports a problem. It publishes ERROR if the problem is one that the scheduler must know, see
// Problem.isError.
func (b *Board) Failing(c spec.Container, p Problem) {
	if p.isError() {
		b.put(c, spec.ContainerStatus{Code: spec.Failed, Message: p.Reason})
	}
}

// Stopping reports that a container that is no longer wanted is being removed.
func (b *Board) Stopping(c spec.Container) {
	b.put(c, spec.ContainerStatus{Code: spec.Stopping, NamespaceName: string(c.InterfaceName)})
}

// put adds host and name to a status and makes it the status to publish.
func (b *Board) put(c spec.Container, status spec.ContainerStatus) {
	status.HostID, status.InterfaceName = c.HostID, c.InterfaceName
	b.set(c.ContainerID, &status)
}
