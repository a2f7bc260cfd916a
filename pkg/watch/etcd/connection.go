package etcd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

var errClosed = errors.New("the NSDB is closed")

// connection is the connection of an NSDB to its cluster: one client that serves all requests. Several goroutines may
// use it.
type connection struct {
	location    Location
	log         *slog.Logger
	timeouts    timeouts
	dialOptions []grpc.DialOption // in addition to the default ones

	mu        sync.Mutex
	client    *clientv3.Client // nil: not connected yet
	authority []byte           // content of the CA file that the client uses
	closed    bool
	token     token
}

// timeouts are the limits of requests and streams, and the intervals of retries and log messages.
type timeouts struct {
	request    time.Duration // for the response to one request
	streamIdle time.Duration // without a message on the watch stream, before it is closed
	maxBackoff time.Duration // between two attempts
	reminder   time.Duration // between two log messages that etcd is unreachable
}

// With etcd's default settings a leader election takes 1 to 2 s. A member that does not respond within 3 s may be
// hanging, so another one is asked.
var defaultTimeouts = timeouts{
	request:    3 * time.Second,
	streamIdle: 5 * time.Second,
	maxBackoff: time.Second,
	reminder:   10 * time.Minute,
}

// connect returns the shared client. It creates the client if there is none, but sends no request.
func (c *connection) connect() (*clientv3.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.client != nil {
		return c.client, nil
	}
	config, authority, err := c.clientConfig()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, err
	}
	c.client, c.authority = client, authority
	return client, nil
}

// close closes the client. Later requests fail.
func (c *connection) close() {
	c.mu.Lock()
	client := c.client
	c.client, c.closed = nil, true
	c.mu.Unlock()
	if client != nil {
		_ = client.Close() // reports only that the client's context was cancelled
	}
}

// dropClient closes a client that cannot be used any more. The next connect creates another one and reads the
// certificate files again.
func (c *connection) dropClient(client *clientv3.Client) {
	c.mu.Lock()
	if c.client != client {
		c.mu.Unlock()
		return
	}
	c.client = nil
	c.mu.Unlock()
	_ = client.Close()
}

// dropClientIfCAChanged drops the client if the CA file has changed since the client was created.
func (c *connection) dropClientIfCAChanged() {
	c.mu.Lock()
	client, authority := c.client, c.authority
	c.mu.Unlock()
	if client == nil || c.location.CA == "" {
		return
	}
	if now, err := readFile("ca", c.location.CA, 0); err == nil && !bytes.Equal(now, authority) {
		c.dropClient(client)
	}
}

// clientConfig returns the client's configuration and the content of the CA file. A hanging member is detected by
// keepalive pings, of which gRPC allows one every 10 s, and usually earlier by the deadlines of the requests and the
// idle time of the streams. With the back-off used here, a member that returns is found within a second.
func (c *connection) clientConfig() (config clientv3.Config, authority []byte, err error) {
	config = clientv3.Config{
		DialTimeout:          c.timeouts.request,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: c.timeouts.request,
		MaxUnaryRetries:      1, // do retries
		Logger:               clientLogger(c.log),
		DialOptions: append([]grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: c.timeouts.maxBackoff / 10, Multiplier: 1.6, Jitter: 0.2,
					MaxDelay: c.timeouts.maxBackoff,
				},
				MinConnectTimeout: c.timeouts.request,
			}),
			grpc.WithChainUnaryInterceptor(recordRPCError),
			grpc.WithPerRPCCredentials(&c.token),
		}, c.dialOptions...),
	}
	scheme := "http://"
	if c.location.TLS {
		scheme = "https://"
		if config.TLS, authority, err = c.location.tlsConfig(); err != nil {
			return config, nil, err
		}
	}
	for _, endpoint := range c.location.Endpoints {
		config.Endpoints = append(config.Endpoints, scheme+endpoint)
	}
	return config, authority, nil
}

// requestAttempts is the number of members that are asked. If two members do not respond, there is no majority or no
// network path to it.
const requestAttempts = 2

// do sends one request with a deadline, and sends it to another member if the first one does not respond. So the
// request must be idempotent. operation and key are used in the text of the error.
func (c *connection) do(
	ctx context.Context, operation string, key native.Key, request func(context.Context, *clientv3.Client) error,
) error {
	var err error
	for attempt := range requestAttempts {
		if attempt > 0 && ctx.Err() != nil {
			break
		}
		var client *clientv3.Client
		client, err = c.connect()
		if err == nil {
			err = c.once(ctx, client, request)
		}
		if !retryable(err) {
			break
		}
	}
	return c.fault(operation, key, err)
}

// once sends a request to one member. If the token is refused, it gets a new one and sends the request again.
func (c *connection) once(
	ctx context.Context, client *clientv3.Client, request func(context.Context, *clientv3.Client) error,
) error {
	var last lastRPCError
	ctx, cancel := context.WithTimeout(withLastRPCError(clientv3.WithRequireLeader(ctx), &last), c.timeouts.request)
	defer cancel()
	token := c.token.get()
	err := request(ctx, client)
	if c.location.User != "" && tokenRefused(err) {
		if err = c.authenticate(ctx, client, token); err == nil {
			err = request(ctx, client)
		}
	}
	return last.detailed(err)
}

// retryable reports whether another attempt, possibly with another member, may succeed.
func retryable(err error) bool {
	switch status.Code(grpcError(err)) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// grpcError converts an error of etcd's own type to a gRPC status error. The status package cannot find the code in
// etcd's type.
func grpcError(err error) error {
	var etcdError rpctypes.EtcdError
	if errors.As(err, &etcdError) {
		return status.Error(etcdError.Code(), etcdError.Error())
	}
	return err
}

// pageLimit limits the keys in one response of a range read.
const pageLimit = 500

// readPages calls each for every key below a directory, page by page and all at one revision. If *revision is 0, it
// uses the revision of the first response and stores it there. The directory "" is everything below the prefix.
func (c *connection) readPages(
	ctx context.Context, dir native.Key, revision *int64, each func(*mvccpb.KeyValue),
) error {
	if dir != "" {
		dir += "/"
	}
	from := c.path(dir)
	end := clientv3.GetPrefixRangeEnd(from)
	for {
		var answer *clientv3.GetResponse
		err := c.do(ctx, "read", dir, func(ctx context.Context, client *clientv3.Client) (err error) {
			answer, err = client.Get(ctx, from,
				clientv3.WithRange(end), clientv3.WithLimit(pageLimit), clientv3.WithRev(*revision))
			return err
		})
		if err != nil {
			return err
		}
		if *revision == 0 {
			*revision = answer.Header.Revision
		}
		for _, kv := range answer.Kvs {
			each(kv)
		}
		if !answer.More || len(answer.Kvs) == 0 {
			return nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

// endpoints returns the endpoints for log messages and errors.
func (c *connection) endpoints() string { return strings.Join(c.location.Endpoints, ",") }

// path returns the etcd key of an object: the prefix and the native key.
func (c *connection) path(key native.Key) string { return c.location.Prefix + string(key) }

// key returns the native key of an etcd key. It is the inverse of path.
func (c *connection) key(path []byte) native.Key {
	return native.Key(strings.TrimPrefix(string(path), c.location.Prefix))
}
