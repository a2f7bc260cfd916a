package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/svc-supervisor/svc-supervisor/internal/inputfile"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

var errClosed = errors.New("the NSDB is closed")

// connect returns the shared client. It creates the client if there is none, but sends no request.
func (n *NSDB) connect() (*clientv3.Client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errClosed
	}
	if n.client != nil {
		return n.client, nil
	}
	config, authority, err := n.config()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, err
	}
	n.client, n.authority = client, authority
	return client, nil
}

// dropClient closes a client that cannot be used any more. The next connect creates another one and reads the
// certificate files again.
func (n *NSDB) dropClient(client *clientv3.Client) {
	n.mu.Lock()
	if n.client != client {
		n.mu.Unlock()
		return
	}
	n.client = nil
	n.mu.Unlock()
	_ = client.Close()
}

// dropClientIfCAChanged drops the client if the CA file has changed since the client was created.
func (n *NSDB) dropClientIfCAChanged() {
	n.mu.Lock()
	client, authority := n.client, n.authority
	n.mu.Unlock()
	if client == nil || n.location.CA == "" {
		return
	}
	if now, err := readFile("ca", n.location.CA, 0); err == nil && !bytes.Equal(now, authority) {
		n.dropClient(client)
	}
}

// config returns the client's configuration and the content of the CA file. A hanging member is detected by keepalive
// pings, of which gRPC allows one every 10 s, and usually earlier by the deadlines of the requests and the idle time of
// the streams. With the back-off used here, a member that returns is found within a second.
func (n *NSDB) config() (config clientv3.Config, authority []byte, err error) {
	config = clientv3.Config{
		DialTimeout:          n.timeouts.request,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: n.timeouts.request,
		MaxUnaryRetries:      1, // do retries
		Logger:               clientLogger(n.log),
		DialOptions: append([]grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: n.timeouts.maxBackoff / 10, Multiplier: 1.6, Jitter: 0.2, MaxDelay: n.timeouts.maxBackoff,
				},
				MinConnectTimeout: n.timeouts.request,
			}),
			grpc.WithChainUnaryInterceptor(recordRPCError),
			grpc.WithPerRPCCredentials(&n.token),
		}, n.dialOptions...),
	}
	scheme := "http://"
	if n.location.TLS {
		scheme = "https://"
		if config.TLS, authority, err = n.tls(); err != nil {
			return config, nil, err
		}
	}
	for _, endpoint := range n.location.Endpoints {
		config.Endpoints = append(config.Endpoints, scheme+endpoint)
	}
	return config, authority, nil
}

// tls returns the TLS configuration and the content of the CA file. A server certificate must contain the host name of
// its endpoint. The client certificate is read again for every connection, so that a renewed one is used.
func (n *NSDB) tls() (*tls.Config, []byte, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var authority []byte
	if n.location.CA != "" {
		var err error
		if authority, err = readFile("ca", n.location.CA, 0); err != nil {
			return nil, nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authority) {
			return nil, nil, &spec.Fault{Key: "ca", Value: n.location.CA, Allowed: "a file with certificates in PEM"}
		}
	}
	if n.location.Cert != "" {
		if _, err := n.certificate(); err != nil {
			return nil, nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return n.certificate() }
	}
	return config, authority, nil
}

func (n *NSDB) certificate() (*tls.Certificate, error) {
	cert, err := readFile("cert", n.location.Cert, 0)
	if err != nil {
		return nil, err
	}
	key, err := readSecret("key", n.location.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("cert %s and key %s: %w", n.location.Cert, n.location.Key, err)
	}
	return &pair, nil
}

// readSecret reads a regular file without permissions for others.
func readSecret(key, path string) (spec.Secret, error) {
	content, err := readFile(key, path, 0o007)
	return spec.NewSecret(content), err
}

// readFile reads a regular file. It returns an error if the file has one of the refused permissions.
func readFile(key, path string, refused fs.FileMode) ([]byte, error) {
	file, stat, err := inputfile.Open(path)
	if err != nil {
		return nil, fileFault(key, path, err)
	}
	defer file.Close()
	switch mode := stat.Mode(); {
	case refused != 0 && (!mode.IsRegular() || mode.Perm()&refused != 0):
		allowed := fmt.Sprintf("a regular file that others may not read (chmod 600), and this is %v", mode)
		return nil, &spec.Fault{Key: key, Value: path, Allowed: allowed}
	case !mode.IsRegular():
		return nil, &spec.Fault{Key: key, Value: path, Allowed: fmt.Sprintf("a regular file, and this is %v", mode)}
	}
	content, err := inputfile.Read(file, stat)
	if err != nil {
		return nil, fileFault(key, path, err)
	}
	return content, nil
}

func fileFault(key, path string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return fmt.Errorf("%s %s: %w", key, path, err)
}

// requestAttempts is the number of members that are asked. If two members do not respond, there is no majority or no
// network path to it.
const requestAttempts = 2

// do sends one request with a deadline, and sends it to another member if the first one does not respond. So the
// request must be idempotent. operation and key are used in the text of the error.
func (n *NSDB) do(
	ctx context.Context, operation string, key native.Key, request func(context.Context, *clientv3.Client) error,
) error {
	var err error
	for attempt := range requestAttempts {
		if attempt > 0 && ctx.Err() != nil {
			break
		}
		var client *clientv3.Client
		client, err = n.connect()
		if err == nil {
			err = n.once(ctx, client, request)
		}
		if !retryable(err) {
			break
		}
	}
	return n.fault(operation, key, err)
}

// once sends a request to one member. If the token is refused, it gets a new one and sends the request again.
func (n *NSDB) once(
	ctx context.Context, client *clientv3.Client, request func(context.Context, *clientv3.Client) error,
) error {
	var last lastRPCError
	ctx, cancel := context.WithTimeout(withLastRPCError(clientv3.WithRequireLeader(ctx), &last), n.timeouts.request)
	defer cancel()
	token := n.token.get()
	err := request(ctx, client)
	if n.location.User != "" && tokenRefused(err) {
		if err = n.authenticate(ctx, client, token); err == nil {
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
