package etcd

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// reader reads and watches the desired state of one host. Its goroutine is that of run.
type reader struct {
	conn           *connection
	host           spec.HostID
	sessionChanged signal.Signal
	faultLog       *native.FaultLog
	changed        func(spec.Desired)

	last        *spec.Desired // the set that was passed to changed last
	read        bool          // at least one set was read
	firstSetAt  time.Time     // when the current readAndWatch read its first set; zero: not yet
	failures    int           // consecutive
	unreachable bool          // the failure was logged, and the recovery not yet
	reported    time.Time     // when the failure was logged last
}

func newReader(
	conn *connection, host spec.HostID, sessionChanged signal.Signal, changed func(spec.Desired),
) *reader {
	return &reader{
		conn: conn, host: host, sessionChanged: sessionChanged, changed: changed,
		faultLog: native.NewFaultLog(conn.log),
	}
}

// run reads and watches until ctx ends. After an error it starts again with a full read.
func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.readAndWatch(ctx)
		if ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.failed(err)):
		}
	}
}

// readAndWatch reads everything, then reads what changes, until an error occurs.
func (r *reader) readAndWatch(ctx context.Context) error {
	m := newMirror(r.conn, r.host)
	if err := m.readWhole(ctx); err != nil {
		return err
	}
	r.deliver(m.desired, m.faults)
	s, err := openStream(ctx, r.conn, r.host)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		if err := m.watch(s); err != nil {
			return err
		}
		revisions, err := s.wait(ctx)
		if err != nil {
			return err
		}
		dirty := m.changedSinceRead(revisions)
		if len(dirty) == 0 {
			continue
		}
		if err := m.update(ctx, dirty); err != nil {
			return err
		}
		r.deliver(m.desired, m.faults)
	}
}

// deliver logs the faults of a set that was read, and passes the set on if it differs from the last one.
func (r *reader) deliver(desired spec.Desired, faults []native.Fault) {
	if r.unreachable {
		r.conn.log.Info("NSDB answers again", "endpoints", r.conn.endpoints())
	}
	if r.firstSetAt.IsZero() {
		r.firstSetAt = time.Now()
		r.sessionChanged.Send() // etcd may have been unreachable
	}
	r.read, r.unreachable = true, false
	r.faultLog.Update(faults, desired.Unread == "")
	r.deliverIfChanged(desired)
}

func (r *reader) deliverIfChanged(desired spec.Desired) {
	if r.last == nil || !r.last.Equal(&desired) {
		r.last = &desired
		r.changed(desired)
	}
}

// failed records the error that ended readAndWatch and returns the time to wait before the next attempt. A watch that
// breaks after it worked for a while is not logged, because the client then continues with another member. A watch that
// breaks soon after every start is logged.
func (r *reader) failed(err error) time.Duration {
	if !r.firstSetAt.IsZero() && time.Since(r.firstSetAt) >= r.conn.timeouts.streamIdle {
		r.failures, r.reported = 0, time.Time{}
	}
	r.firstSetAt = time.Time{}
	r.failures++
	wait := r.conn.timeouts.maxBackoff / 10
	for range min(r.failures-1, 4) {
		wait = min(2*wait, r.conn.timeouts.maxBackoff)
	}
	wait = wait/2 + rand.N(wait/2+1) // jitter: the hosts should not retry at the same time
	r.conn.dropClientIfCAChanged()
	if (r.failures > 1 || !r.read) && time.Since(r.reported) >= r.conn.timeouts.reminder {
		r.unreachable, r.reported = true, time.Now()
		r.conn.log.Warn("NSDB cannot be followed: running containers are not changed", "error", err, "retry", wait)
		// Only with the log message, not at each attempt: the error names a member or a port, and each new text would
		// be a new set for the caller.
		if !r.read {
			r.deliverIfChanged(spec.Desired{Unread: err.Error(), Host: spec.Host{ID: r.host}})
		}
	}
	return wait
}
