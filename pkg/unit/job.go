package unit

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// jobDone is the result of a job that succeeded (org.freedesktop.systemd1(5), JobRemoved).
const jobDone = "done"

// jobListener collects the signals of one connection about the jobs of one unit. It must be registered before a job
// is queued, because the job may end before the call that queues it returns.
type jobListener struct {
	unit    string
	conn    *connection
	results map[dbus.ObjectPath]string // results of ended jobs; guarded by conn.listeners.mu, as is exit
	exit    Exit                       // of the last run that failed
	wake    chan struct{}              // receives a value after a result was added
}

func (c *connection) listenJobs(unit string) *jobListener {
	j := &jobListener{unit: unit, conn: c, results: map[dbus.ObjectPath]string{}, wake: make(chan struct{}, 1)}
	c.listeners.mu.Lock()
	defer c.listeners.mu.Unlock()
	if c.listeners.jobs == nil {
		c.listeners.jobs = map[*jobListener]struct{}{}
	}
	c.listeners.jobs[j] = struct{}{}
	return j
}

func (j *jobListener) stop() {
	j.conn.listeners.mu.Lock()
	defer j.conn.listeners.mu.Unlock()
	delete(j.conn.listeners.jobs, j)
}

func (j *jobListener) removedLocked(path dbus.ObjectPath, unit, result string) {
	if unit != j.unit {
		return
	}
	j.results[path] = result
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *jobListener) changedLocked(unit string, changed map[string]dbus.Variant) {
	if unit != j.unit {
		return
	}
	if exit := exitOf(changed); exit.Failed() {
		j.exit = exit
	}
}

// jobOutcome is the result of a call that queues a job.
type jobOutcome struct {
	maybeQueued bool   // systemd may have queued the job: the call was sent, and systemd did not refuse it
	result      string // of the job; "" if its end was not seen
	exit        Exit   // of a run of the unit that failed meanwhile
}

// wait waits for the end of the job at path.
func (j *jobListener) wait(ctx context.Context, path dbus.ObjectPath) (jobOutcome, error) {
	for {
		j.conn.listeners.mu.Lock()
		o := jobOutcome{true, j.results[path], j.exit}
		j.conn.listeners.mu.Unlock()
		if o.result != "" {
			return o, nil
		}
		select {
		case <-j.wake:
		case <-ctx.Done():
			return o, fmt.Errorf("wait for the job: %w", context.Cause(ctx))
		case <-j.conn.Context().Done():
			return o, errConnectionLost
		}
	}
}

// job calls a method that queues a job for the unit, and waits for the end of the job.
func (b *Bus) job(ctx context.Context, unit, method string, args ...any) (jobOutcome, error) {
	conn, err := b.connect(ctx)
	if err != nil {
		return jobOutcome{}, err
	}
	j := conn.listenJobs(unit)
	defer j.stop()
	call, cancel := context.WithTimeout(ctx, b.limits.call)
	defer cancel()
	var path dbus.ObjectPath
	if err := conn.call(call, managerPath, manager+"."+method, args, &path); err != nil {
		return jobOutcome{maybeQueued: !errors.As(err, new(dbus.Error))}, err
	}
	wait, cancelWait := context.WithTimeout(ctx, b.limits.job)
	defer cancelWait()
	return j.wait(wait, path)
}

// waitIdle waits until the unit has no job, and returns the state of the unit. If the connection is lost, it
// continues on a new one.
func (b *Bus) waitIdle(ctx context.Context, unit string) (Unit, error) {
	for {
		conn, err := b.connect(ctx)
		if err != nil {
			return Unit{}, err
		}
		u, err := b.waitIdleOn(ctx, conn, unit)
		if !errors.Is(err, errConnectionLost) {
			return u, err
		}
	}
}

func (b *Bus) waitIdleOn(ctx context.Context, conn *connection, unit string) (Unit, error) {
	j := conn.listenJobs(unit)
	defer j.stop()
	for {
		e, err := b.entry(ctx, unit)
		if err != nil || e.JobID == 0 {
			return e.unit(), err
		}
		if _, err := j.wait(ctx, e.JobPath); err != nil {
			return Unit{}, err
		}
	}
}
