// Package report decides what is published of each container, and hands it to the NSDB.
//
// A status is a message to the cluster's scheduler and not a diary: on ERROR, or on STOPPING of a bound container, it takes
// the container to another host. So trouble that may pass is not published; a verdict is. The package promises that the
// last word on each container reaches the NSDB as soon as the NSDB takes it, in the order of the words, and that nobody
// who reports waits for the NSDB.
package report

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Patience is how long the healing of a container that ran may take before it is published as ERROR.
const Patience = time.Minute

// Trouble is a failed ADD or a hold of a container that is wanted and does not run.
type Trouble struct {
	Reason string
	Err    error         // of a failed ADD; nil for a hold
	Times  int           // how often ADD failed in a row
	Ran    bool          // the container ran before: it is being healed
	For    time.Duration // how long it has not run
}

// verdict says whether the trouble is published as ERROR, or the last status stands.
func (t Trouble) verdict() bool {
	var said *spec.Error
	answered := errors.As(t.Err, &said)
	switch {
	case answered && said.Code == spec.CodeAgain:
		return false
	case t.Ran:
		return t.For >= Patience
	case t.Err == nil:
		return true
	case answered && said.Code.Verdict():
		return true
	default:
		return t.Times >= 2
	}
}

// Starting reports the first ADD, or the DEL and ADD that heal.
func (b *Board) Starting(c spec.Container) {
	b.put(c, spec.ContainerStatus{Code: spec.Starting})
}

// Running reports a settled container: also one with nothing to run, and one that was adopted. A health of nil is not known
// yet; what is published of the connections then stands. The message is that of the health, after the notes.
func (b *Board) Running(c spec.Container, health *spec.Health, notes ...string) {
	status := spec.ContainerStatus{Code: spec.Running, NamespaceName: string(c.InterfaceName)}
	messages := slices.Clone(notes)
	if health != nil {
		messages = append(messages, health.Message)
		status.Connections = spec.WithoutCounters(health.Connections)
	} else if last, ok := b.last(c.ContainerID); ok && last.Code == spec.Running {
		status.Connections = last.Connections // the message may be that of a change that has succeeded since
	}
	status.Message = strings.Join(slices.DeleteFunc(messages, func(m string) bool { return m == "" }), "; ")
	b.put(c, status)
}

// Unstable reports a container that runs, or is made anew, and that fails again and again: RUNNING, or ERROR if failed is
// set. What is published of its connections stays while it is RUNNING.
func (b *Board) Unstable(c spec.Container, reason string, failed bool) {
	if failed {
		b.put(c, spec.ContainerStatus{Code: spec.Failed, Message: reason})
		return
	}
	status := spec.ContainerStatus{Code: spec.Running, NamespaceName: string(c.InterfaceName), Message: reason}
	if last, ok := b.last(c.ContainerID); ok && last.Code == spec.Running {
		status.Connections = last.Connections
	}
	b.put(c, status)
}

// Pushed reports connections that changed, Checked all of them. Nothing but them changes: they are no word on the container,
// and one that was not said to run has none.
func (b *Board) Pushed(id spec.ContainerID, connections []spec.Connection) {
	b.amend(id, func(was []spec.Connection) []spec.Connection {
		return (&spec.Health{Connections: was}).With(connections).Connections
	})
}

// Checked reports what CHECK told of the connections: also of a container that is not settled, and may not be for long.
func (b *Board) Checked(id spec.ContainerID, connections []spec.Connection) {
	b.amend(id, func([]spec.Connection) []spec.Connection { return connections })
}

func (b *Board) amend(id spec.ContainerID, change func([]spec.Connection) []spec.Connection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.containers[id]
	if w == nil || w.status == nil || w.status.Code != spec.Running {
		return
	}
	status := *w.status
	status.Connections = spec.WithoutCounters(change(status.Connections))
	b.setLocked(id, &status)
}

// ChangeFailed reports that ADD again failed: what ran before still runs.
func (b *Board) ChangeFailed(c spec.Container, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	status := spec.ContainerStatus{Code: spec.Running, NamespaceName: string(c.InterfaceName)}
	if w := b.containers[c.ContainerID]; w != nil && w.status != nil && w.status.Code == spec.Running {
		status = *w.status
	}
	status.HostID, status.InterfaceName = c.HostID, c.InterfaceName
	status.Message = "change failed: " + reason
	b.setLocked(c.ContainerID, &status)
}

// Failing reports trouble. It is published when it is a verdict.
func (b *Board) Failing(c spec.Container, t Trouble) {
	if t.verdict() {
		b.put(c, spec.ContainerStatus{Code: spec.Failed, Message: t.Reason})
	}
}

// Stopping reports that a container that is no longer wanted is being removed.
func (b *Board) Stopping(c spec.Container) {
	b.put(c, spec.ContainerStatus{Code: spec.Stopping, NamespaceName: string(c.InterfaceName)})
}

// put completes a status and makes it the last word on the container.
func (b *Board) put(c spec.Container, status spec.ContainerStatus) {
	status.HostID, status.InterfaceName = c.HostID, c.InterfaceName
	b.set(c.ContainerID, &status)
}
