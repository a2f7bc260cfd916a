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

// connect returns the one client, and makes it where there is none. It asks etcd for nothing.
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

// leave ends a client that cannot be used any more: the next one reads the files again.
func (n *NSDB) leave(client *clientv3.Client) {
	n.mu.Lock()
	if n.client != client {
		n.mu.Unlock()
		return
	}
	n.client = nil
	n.mu.Unlock()
	_ = client.Close()
}

// refresh leaves the client when the file of authorities has changed since.
func (n *NSDB) refresh() {
	n.mu.Lock()
	client, authority := n.client, n.authority
	n.mu.Unlock()
	if client == nil || n.location.CA == "" {
		return
	}
	if now, err := readFile("ca", n.location.CA, 0); err == nil && !bytes.Equal(now, authority) {
		n.leave(client)
	}
}

// config says how to connect. A member that hangs is noticed by pings (gRPC sends none more often than every 10 s), sooner
// by the deadlines of the requests and the silence of the streams; one that comes back is found within a second.
func (n *NSDB) config() (config clientv3.Config, authority []byte, err error) {
	config = clientv3.Config{
		DialTimeout:          n.patience.try,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: n.patience.try,
		MaxUnaryRetries:      1, // do tries again
		Logger:               quiet(n.log),
		DialOptions: append([]grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: n.patience.retry / 10, Multiplier: 1.6, Jitter: 0.2, MaxDelay: n.patience.retry},
				MinConnectTimeout: n.patience.try,
			}),
			grpc.WithChainUnaryInterceptor(takeNotes),
			grpc.WithPerRPCCredentials(&n.token),
		}, n.dial...),
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

// tls reads the certificates. The name that a server must have is its endpoint's. The client's own certificate is read
// again for every connection, so that a renewed one is used.
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

// readSecret reads a file that others may not read.
func readSecret(key, path string) (spec.Secret, error) {
	content, err := readFile(key, path, 0o007)
	return spec.NewSecret(content), err
}

// readFile reads a regular file that has none of the given permissions.
func readFile(key, path string, refused fs.FileMode) ([]byte, error) {
	file, stat, err := inputfile.Open(path)
	if err != nil {
		return nil, fileFault(key, path, err)
	}
	defer file.Close()
	switch mode := stat.Mode(); {
	case refused != 0 && (!mode.IsRegular() || mode.Perm()&refused != 0):
		return nil, &spec.Fault{Key: key, Value: path, Allowed: fmt.Sprintf("a regular file that others may not read (chmod 600), and this is %v", mode)}
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

// tries is how many members a request is put to: where two do not answer, there is no majority, or no way to it.
const tries = 2

// do puts one request to etcd, with a deadline, and to other members where one does not answer. So a request must be one
// that may be done twice. operation and key are for the text of the error.
func (n *NSDB) do(ctx context.Context, operation string, key native.Key, request func(context.Context, *clientv3.Client) error) error {
	var err error
	for try := range tries {
		if try > 0 && ctx.Err() != nil {
			break
		}
		var client *clientv3.Client
		client, err = n.connect()
		if err == nil {
			err = n.once(ctx, client, request)
		}
		if !passing(err) {
			break
		}
	}
	return n.fault(operation, key, err)
}

// once puts a request to one member, with a new token where the old one is not taken.
func (n *NSDB) once(ctx context.Context, client *clientv3.Client, request func(context.Context, *clientv3.Client) error) error {
	var met note
	ctx, cancel := context.WithTimeout(noting(clientv3.WithRequireLeader(ctx), &met), n.patience.try)
	defer cancel()
	token := n.token.get()
	err := request(ctx, client)
	if n.location.User != "" && tokenRefused(err) {
		if err = n.authenticate(ctx, client, token); err == nil {
			err = request(ctx, client)
		}
	}
	return met.explains(err)
}

// passing says whether another try, of another member perhaps, may go better.
func passing(err error) bool {
	switch status.Code(plain(err)) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// plain takes etcd's own type off an error of gRPC: it hides the code from the status package.
func plain(err error) error {
	var etcdError rpctypes.EtcdError
	if errors.As(err, &etcdError) {
		return status.Error(etcdError.Code(), etcdError.Error())
	}
	return err
}
