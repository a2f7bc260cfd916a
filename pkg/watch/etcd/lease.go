package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/internal/signal"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// lease is the lease of the statuses. It is requested when the first status is written, because a command that only
// reads must not leave a lease, and renewed until the NSDB is closed. It is also renewed while etcd refuses writes:
// without free space etcd still renews leases, and the written statuses must not expire.
//
// All renewals use one stream. clientv3's KeepAlive is not used: if a member hangs, it waits until gRPC detects that,
// and meanwhile a lease of the default TTL expires (TestClientV3LosesALeaseIfAMemberHangs). KeepAliveOnce opens a
// stream for each renewal, which TestTheLeaseOfAStatusIsRenewed does not allow.
type lease struct {
	conn           *connection
	host           spec.HostID
	sessionChanged signal.Signal
	ctx            context.Context // ends at close
	cancel         context.CancelFunc
	startOnce      sync.Once
	keeper         sync.WaitGroup

	sem     chan struct{}    // a mutex whose lock can be cancelled; guards the fields below
	id      clientv3.LeaseID // 0: no lease
	renewed time.Time

	stream    pb.Lease_LeaseKeepAliveClient // nil: not open
	streamCtx context.Context
	stop      context.CancelCauseFunc // closes the stream
}

func newLease(conn *connection, host spec.HostID, sessionChanged signal.Signal) *lease {
	l := &lease{conn: conn, host: host, sessionChanged: sessionChanged, sem: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// close stops the renewals. The lease remains until it expires.
func (l *lease) close() {
	l.cancel()
	l.startOnce.Do(func() {}) // prevents a later start of the keeper
	l.keeper.Wait()
}

func (l *lease) lock(ctx context.Context) error {
	if l.ctx.Err() != nil {
		return errClosed
	}
	select {
	case l.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lease) unlock() { <-l.sem }

// ensure returns the lease. It requests one if there is none, and starts the renewals.
func (l *lease) ensure(ctx context.Context) (clientv3.LeaseID, error) {
	if err := l.lock(ctx); err != nil {
		return 0, err
	}
	defer l.unlock()
	l.startOnce.Do(func() { l.keeper.Go(l.keep) })
	var err error
	if l.id == 0 {
		err = l.grant(ctx)
	}
	return l.id, err
}

// lost records that a lease does not exist any more.
func (l *lease) lost(id clientv3.LeaseID) {
	if l.lock(l.ctx) != nil {
		return
	}
	defer l.unlock()
	l.lostLocked(id)
}

func (l *lease) lostLocked(id clientv3.LeaseID) {
	if l.id != id {
		return // it was replaced already
	}
	l.conn.log.Info("lease lost: every status is written again", "endpoints", l.conn.endpoints())
	l.id = 0
	l.sessionChanged.Send()
}

// keep renews the lease until the NSDB is closed.
func (l *lease) keep() {
	defer l.closeStream()
	failures := 0
	var reported time.Time // when the failure was logged last; zero: no failure was logged
	for {
		wait, err := l.maintain()
		if l.ctx.Err() != nil {
			return
		}
		if err == nil {
			if failures > 0 { // statuses that could not be written meanwhile need not wait for their retry
				l.sessionChanged.Send()
			}
			if !reported.IsZero() {
				l.conn.log.Info("statuses are kept again", "endpoints", l.conn.endpoints())
			}
			failures, reported = 0, time.Time{}
		} else {
			wait = l.conn.timeouts.maxBackoff / 2
			if failures++; failures > 1 && time.Since(reported) >= l.conn.timeouts.reminder {
				reported = time.Now()
				l.conn.log.Warn("statuses cannot be kept", "error", err, "retry", wait)
			}
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// maintain renews the lease if that is due, or requests another one if there is none, and returns the time until the
// next renewal.
func (l *lease) maintain() (wait time.Duration, err error) {
	if err := l.lock(l.ctx); err != nil {
		return 0, err
	}
	defer l.unlock()
	if l.id != 0 {
		if err = l.renew(l.ctx); errors.Is(err, rpctypes.ErrLeaseNotFound) {
			l.lostLocked(l.id)
		}
	}
	if l.id == 0 {
		err = l.grant(l.ctx)
	}
	return time.Until(l.renewed.Add(l.renewInterval())), err
}

// renewInterval is a third of the TTL: a lease of the default TTL survives a failed renewal.
func (l *lease) renewInterval() time.Duration { return l.conn.location.TTL / 3 }

// grant requests a new lease.
func (l *lease) grant(ctx context.Context) error {
	statuses := native.ContainerStatusesKey(l.host)
	return l.conn.do(ctx, "grant a lease for", statuses, func(ctx context.Context, client *clientv3.Client) error {
		sent := time.Now()
		granted, err := client.Grant(ctx, int64(l.conn.location.TTL/time.Second))
		if err == nil {
			l.id, l.renewed = granted.ID, sent
		}
		return err
	})
}

// renew renews the lease if the renewal is due. It returns ErrLeaseNotFound if the lease does not exist any more.
func (l *lease) renew(ctx context.Context) error {
	if time.Since(l.renewed) < l.renewInterval() {
		return nil
	}
	statuses := native.ContainerStatusesKey(l.host)
	return l.conn.do(ctx, "renew the lease of", statuses, func(_ context.Context, client *clientv3.Client) error {
		sent := time.Now()
		remaining, err := l.keepAlive(client)
		if err != nil {
			l.closeStream()
			return err
		}
		if remaining <= 0 {
			return rpctypes.ErrLeaseNotFound
		}
		l.renewed = sent
		return nil
	})
}

// keepAlive sends one renewal and returns the TTL that is left, in seconds. If the member does not respond in time, the
// stream ends and cannot be used again.
func (l *lease) keepAlive(client *clientv3.Client) (seconds int64, err error) {
	if l.stream == nil {
		l.streamCtx, l.stop = context.WithCancelCause(l.ctx)
	}
	ctx, stop := l.streamCtx, l.stop
	timer := time.AfterFunc(l.conn.timeouts.request, func() { stop(context.DeadlineExceeded) })
	defer timer.Stop()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
	}()
	if l.stream == nil {
		leases := pb.NewLeaseClient(client.ActiveConnection())
		l.stream, err = leases.LeaseKeepAlive(clientv3.WithRequireLeader(ctx), grpc.WaitForReady(true))
		if err != nil {
			return 0, err
		}
	}
	// Send returns no useful error; Recv returns the cause.
	_ = l.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(l.id)})
	for {
		answer, err := l.stream.Recv()
		if err != nil {
			return 0, err
		}
		if answer.ID == int64(l.id) { // a response for an earlier lease is skipped
			return answer.TTL, nil
		}
	}
}

// closeStream closes the stream if it is open.
func (l *lease) closeStream() {
	if l.stop != nil {
		l.stop(nil)
	}
	l.stream, l.stop = nil, nil
}
