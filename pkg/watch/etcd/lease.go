package etcd

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// lease is the lease of the statuses. All renewals use one stream, because for a client with a user etcd checks a
// password for every new stream.
type lease struct {
	id      clientv3.LeaseID // 0: no lease
	renewed time.Time

	stream    pb.Lease_LeaseKeepAliveClient // nil: not open
	streamCtx context.Context
	stop      context.CancelCauseFunc // closes the stream
}

// renewInterval is a third of the TTL: the lease survives two failed renewals.
func (p *statusPublisher) renewInterval() time.Duration { return p.n.location.TTL / 3 }

// grant requests a new lease.
func (p *statusPublisher) grant(ctx context.Context) error {
	statuses := native.ContainerStatusesKey(p.n.host)
	return p.n.do(ctx, "grant a lease for", statuses, func(ctx context.Context, client *clientv3.Client) error {
		sent := time.Now()
		granted, err := client.Grant(ctx, int64(p.n.location.TTL/time.Second))
		if err == nil {
			p.id, p.renewed = granted.ID, sent
		}
		return err
	})
}

// renew renews the lease if the renewal is due. It returns ErrLeaseNotFound if the lease does not exist any more.
func (p *statusPublisher) renew(ctx context.Context) error {
	if time.Since(p.renewed) < p.renewInterval() {
		return nil
	}
	statuses := native.ContainerStatusesKey(p.n.host)
	return p.n.do(ctx, "renew the lease of", statuses, func(_ context.Context, client *clientv3.Client) error {
		sent := time.Now()
		remaining, err := p.keepAlive(client)
		if err != nil {
			p.closeStream()
			return err
		}
		if remaining <= 0 {
			return rpctypes.ErrLeaseNotFound
		}
		p.renewed = sent
		return nil
	})
}

// keepAlive sends one renewal and returns the TTL that is left, in seconds. If the member does not respond in time, the
// stream ends and cannot be used again.
func (p *statusPublisher) keepAlive(client *clientv3.Client) (seconds int64, err error) {
	if p.stream == nil {
		p.streamCtx, p.stop = context.WithCancelCause(p.ctx)
	}
	ctx, stop := p.streamCtx, p.stop
	timer := time.AfterFunc(p.n.timeouts.request, func() { stop(context.DeadlineExceeded) })
	defer timer.Stop()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
	}()
	if p.stream == nil {
		leases := pb.NewLeaseClient(client.ActiveConnection())
		p.stream, err = leases.LeaseKeepAlive(clientv3.WithRequireLeader(ctx), grpc.WaitForReady(true))
		if err != nil {
			return 0, err
		}
	}
	// Send returns no useful error; Recv returns the cause.
	_ = p.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(p.id)})
	for {
		answer, err := p.stream.Recv()
		if err != nil {
			return 0, err
		}
		if answer.ID == int64(p.id) { // a response for an earlier lease is skipped
			return answer.TTL, nil
		}
	}
}

// closeStream closes the stream if it is open.
func (p *statusPublisher) closeStream() {
	if p.stop != nil {
		p.stop(nil)
	}
	p.stream, p.stop = nil, nil
}
