package unit

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// done is the result of a job that did what it was queued for (org.freedesktop.systemd1(5), JobRemoved).
const done = "done"

// jobs collects what the signals of one connection say of one unit's jobs. It listens from before a job is queued: the
// job may end before the call that queued it returns.
type jobs struct {
	unit    string
	on      *connection
	results map[dbus.ObjectPath]string // guarded by on.listeners.mu, as is exit
	exit    Exit                       // of the last run that did not end well
	wake    chan struct{}
}

func (c *connection) listen(unit string) *jobs {
	j := &jobs{unit: unit, on: c, results: map[dbus.ObjectPath]string{}, wake: make(chan struct{}, 1)}
	c.listeners.mu.Lock()
	defer c.listeners.mu.Unlock()
	if c.listeners.jobs == nil {
		c.listeners.jobs = map[*jobs]struct{}{}
	}
	c.listeners.jobs[j] = struct{}{}
	return j
}

func (j *jobs) forget() {
	j.on.listeners.mu.Lock()
	defer j.on.listeners.mu.Unlock()
	delete(j.on.listeners.jobs, j)
}

func (j *jobs) removedLocked(path dbus.ObjectPath, unit, result string) {
	if unit != j.unit {
		return
	}
	j.results[path] = result
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *jobs) changedLocked(unit string, changed map[string]dbus.Variant) {
	if unit != j.unit {
		return
	}
	if exit := exitOf(changed); exit.Failed() {
		j.exit = exit
	}
}

// outcome is what became of a call that queues a job.
type outcome struct {
	asked  bool   // systemd may have queued it: it was asked, and did not refuse
	result string // the job's; "" if its end was not seen
	exit   Exit   // of a run that did not end well meanwhile
}

// wait waits for the end of one job.
func (j *jobs) wait(ctx context.Context, path dbus.ObjectPath) (outcome, error) {
	for {
		j.on.listeners.mu.Lock()
		o := outcome{true, j.results[path], j.exit}
		j.on.listeners.mu.Unlock()
		if o.result != "" {
			return o, nil
		}
		select {
		case <-j.wake:
		case <-ctx.Done():
			return o, fmt.Errorf("wait for the job: %w", context.Cause(ctx))
		case <-j.on.Context().Done():
			return o, errLost
		}
	}
}

// job calls a method that queues a job for the unit, and waits for the job's end.
func (b *Bus) job(ctx context.Context, unit, method string, args ...any) (outcome, error) {
	conn, err := b.connect(ctx)
	if err != nil {
		return outcome{}, err
	}
	j := conn.listen(unit)
	defer j.forget()
	call, cancel := context.WithTimeout(ctx, b.limits.call)
	defer cancel()
	var path dbus.ObjectPath
	if err := conn.call(call, managerPath, manager+"."+method, args, &path); err != nil {
		return outcome{asked: !errors.As(err, new(dbus.Error))}, err
	}
	wait, cancelWait := context.WithTimeout(ctx, b.limits.job)
	defer cancelWait()
	return j.wait(wait, path)
}

// settle waits until the unit has no job, on a new connection after one was lost, and says how the unit is then.
func (b *Bus) settle(ctx context.Context, unit string) (Unit, error) {
	for {
		conn, err := b.connect(ctx)
		if err != nil {
			return Unit{}, err
		}
		u, err := b.settleOn(ctx, conn, unit)
		if !errors.Is(err, errLost) {
			return u, err
		}
	}
}

func (b *Bus) settleOn(ctx context.Context, conn *connection, unit string) (Unit, error) {
	j := conn.listen(unit)
	defer j.forget()
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
