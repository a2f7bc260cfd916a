package unit

import (
	"context"
	"errors"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// jobDone is the result of a job that succeeded (org.freedesktop.systemd1(5), JobRemoved).
const jobDone = "done"

// jobListener collects the signals of one connection about the jobs of one unit. It must be registered before a job
// is queued, because the job may end before the call that queues it returns.
//
// go-systemd would send the result of a job to a channel. But it holds a lock during each call with such a channel, so
// that no other job can be queued meanwhile, also not until the context of its caller ends
// (TestGoSystemdLocksDuringCall). A channel receives nothing when the connection is lost, for example at a
// daemon-reexec (TestGoSystemdLosesJobAtReexec). And go-systemd does not pass on how a service ended
// (TestGoSystemdReportsNoExit), which systemd forgets when Restart= starts the service again.
type jobListener struct {
	unit    string
	conn    *connection
	results map[uint32]string // results of ended jobs by id; guarded by conn.listeners.mu, as is exit
	exit    Exit              // of the last run that failed
	wake    chan struct{}     // receives a value after a result was added
}

func (c *connection) listenJobs(unit string) *jobListener {
	j := &jobListener{unit: unit, conn: c, results: map[uint32]string{}, wake: make(chan struct{}, 1)}
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

func (j *jobListener) removedLocked(id uint32, unit, result string) {
	if unit != j.unit {
		return
	}
	j.results[id] = result
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *jobListener) changedLocked(unit string, changed map[string]dbus.Variant) {
	if unit != j.unit {
		return
	}
	values := make(map[string]any, len(changed))
	for name, value := range changed {
		values[name] = value.Value()
	}
	if exit := exitOf(values); exit.Failed() {
		j.exit = exit
	}
}

// jobOutcome is the result of a call that queues a job.
type jobOutcome struct {
	maybeQueued bool   // systemd may have queued the job: the call was sent, and systemd did not refuse it
	result      string // of the job; "" if its end was not seen
	exit        Exit   // of a run of the unit that failed meanwhile
}

// wait waits for the end of the job with an id.
func (j *jobListener) wait(ctx context.Context, id uint32) (jobOutcome, error) {
	for {
		j.conn.listeners.mu.Lock()
		o := jobOutcome{true, j.results[id], j.exit}
		j.conn.listeners.mu.Unlock()
		if o.result != "" {
			return o, nil
		}
		select {
		case <-j.wake:
		case <-ctx.Done():
			return o, fmt.Errorf("wait for the job: %w", context.Cause(ctx))
		case <-j.conn.bus.Context().Done():
			return o, errConnectionLost
		}
	}
}

// queueJob is a method of go-systemd that queues a job for a unit and returns the id of the job.
type queueJob func(c *systemd.Conn, ctx context.Context, unit, mode string, done chan<- string) (id int, err error)

// job queues a job for the unit, and waits for the end of the job.
func (b *Bus) job(ctx context.Context, unit string, queue queueJob) (jobOutcome, error) {
	conn, err := b.connect(ctx)
	if err != nil {
		return jobOutcome{}, err
	}
	j := conn.listenJobs(unit)
	defer j.stop()
	call, cancel := context.WithTimeout(ctx, b.limits.call)
	defer cancel()
	id, err := queue(conn.Conn, call, unit, "replace", nil)
	if err = conn.classify(err); err != nil {
		return jobOutcome{maybeQueued: !errors.As(err, new(dbus.Error))}, err
	}
	wait, cancelWait := context.WithTimeout(ctx, b.limits.job)
	defer cancelWait()
	return j.wait(wait, uint32(id))
}

// waitIdle waits until the unit has no job, and returns the state of the unit. If the connection is lost, it
// continues on a new one.
func (b *Bus) waitIdle(ctx context.Context, unit string) (Unit, error) {
	ctx, cancel := context.WithTimeout(ctx, b.limits.job)
	defer cancel()
	for {
		conn, err := b.connect(ctx)
		if err != nil {
			return Unit{}, err
		}
		j := conn.listenJobs(unit)
		s, err := b.status(ctx, unit)
		idle := s.JobId == 0
		if err == nil && !idle {
			_, err = j.wait(ctx, s.JobId)
		}
		j.stop()
		if !errors.Is(err, errConnectionLost) && (idle || err != nil) {
			return unitOf(s), err
		}
	}
}
