package etcd

import (
	"context"
	"sync"

	"google.golang.org/grpc"
)

// note keeps the last error of gRPC that a request met: etcd's client makes a bare "deadline exceeded" of one that says why
// there is no connection.
type note struct {
	mu  sync.Mutex
	err error
}

type noteKey struct{}

// noting makes requests note their errors.
func noting(ctx context.Context, n *note) context.Context {
	return context.WithValue(ctx, noteKey{}, n)
}

// takeNotes is what the connection does for a request that notes.
func takeNotes(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, opts...)
	if n, ok := ctx.Value(noteKey{}).(*note); ok && err != nil {
		n.mu.Lock()
		n.err = err
		n.mu.Unlock()
	}
	return err
}

// explains returns the noted error in the place of one that says less.
func (n *note) explains(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil && passing(err) {
		return n.err
	}
	return err
}
