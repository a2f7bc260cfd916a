package etcd

import (
	"context"
	"sync"

	"google.golang.org/grpc"
)

// lastRPCError holds the last gRPC error of a request. etcd's client returns a bare "deadline exceeded" in place of the
// error that explains why there is no connection.
type lastRPCError struct {
	mu  sync.Mutex
	err error
}

type lastRPCErrorKey struct{}

// withLastRPCError returns a context whose requests store their last gRPC error in n.
func withLastRPCError(ctx context.Context, n *lastRPCError) context.Context {
	return context.WithValue(ctx, lastRPCErrorKey{}, n)
}

// recordRPCError is a client interceptor. It stores the error of a call in the lastRPCError of its context.
func recordRPCError(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, conn, opts...)
	if n, ok := ctx.Value(lastRPCErrorKey{}).(*lastRPCError); ok && err != nil {
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
	}
	return err
}

// detailed returns the stored gRPC error if err only reports that no member answered in time.
func (n *lastRPCError) detailed(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil && retryable(err) {
		return n.err
	}
	return err
}
