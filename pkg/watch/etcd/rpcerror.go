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

// withLastRPCError returns a context whose requests store their last gRPC error in e.
func withLastRPCError(ctx context.Context, e *lastRPCError) context.Context {
	return context.WithValue(ctx, lastRPCErrorKey{}, e)
}

// recordRPCError is a client interceptor. It stores the error of a call in the lastRPCError of its context.
func recordRPCError(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, conn, opts...)
	if e, ok := ctx.Value(lastRPCErrorKey{}).(*lastRPCError); ok && err != nil {
		e.mu.Lock()
		e.err = err
		e.mu.Unlock()
	}
	return err
}

// detailed replaces an error that only reports that no member answered by the stored gRPC error, which contains the
// cause.
func (e *lastRPCError) detailed(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil && retryable(err) {
		return e.err
	}
	return err
}
