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

// lease is what the statuses stand under. It is renewed through one stream: with a user, every stream that is begun costs
// etcd the check of a password.
type lease struct {
	id      clientv3.LeaseID // 0: none
	renewed time.Time

	stream    pb.Lease_LeaseKeepAliveClient // nil: none
	streamCtx context.Context
	stop      context.CancelCauseFunc // ends the stream
}

// period is how often the lease is renewed: two renewals may fail.
func (v *voice) period() time.Duration { return v.n.location.TTL / 3 }

// grant has a new lease.
func (v *voice) grant(ctx context.Context) error {
	return v.n.do(ctx, "grant a lease for", native.ContainerStatusesKey(v.n.host), func(ctx context.Context, client *clientv3.Client) error {
		asked := time.Now()
		granted, err := client.Grant(ctx, int64(v.n.location.TTL/time.Second))
		if err == nil {
			v.id, v.renewed = granted.ID, asked
		}
		return err
	})
}

// renew renews the lease if it is time to. ErrLeaseNotFound: it is no more.
func (v *voice) renew(ctx context.Context) error {
	if time.Since(v.renewed) < v.period() {
		return nil
	}
	return v.n.do(ctx, "renew the lease of", native.ContainerStatusesKey(v.n.host), func(_ context.Context, client *clientv3.Client) error {
		asked := time.Now()
		left, err := v.ask(client)
		if err != nil {
			v.hangUp()
			return err
		}
		if left <= 0 {
			return rpctypes.ErrLeaseNotFound
		}
		v.renewed = asked
		return nil
	})
}

// ask asks for the lease's renewal and returns how many seconds it has. A member that does not answer costs the stream.
func (v *voice) ask(client *clientv3.Client) (seconds int64, err error) {
	if v.stream == nil {
		v.streamCtx, v.stop = context.WithCancelCause(v.ctx)
	}
	ctx, stop := v.streamCtx, v.stop
	alarm := time.AfterFunc(v.n.patience.try, func() { stop(context.DeadlineExceeded) })
	defer alarm.Stop()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
	}()
	if v.stream == nil {
		v.stream, err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(clientv3.WithRequireLeader(ctx), grpc.WaitForReady(true))
		if err != nil {
			return 0, err
		}
	}
	// An error of Send says nothing: the one of Recv does.
	_ = v.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(v.id)})
	for {
		answer, err := v.stream.Recv()
		if err != nil {
			return 0, err
		}
		if answer.ID == int64(v.id) { // and not of a lease before it
			return answer.TTL, nil
		}
	}
}

// hangUp ends the stream, if there is one.
func (v *voice) hangUp() {
	if v.stop != nil {
		v.stop(nil)
	}
	v.stream, v.stop = nil, nil
}
