package etcd

import (
	"bytes"
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// token is the token that etcd returns for a user and a password. The client sends it with every request. A token that
// is not used for some time (5 minutes by default) expires.
//
// clientv3's authentication is not used: with etcd 3.4 it never replaces an expired token, and every later request
// waits for its deadline (TestClientV3CannotReplaceAnExpiredToken).
type token struct {
	renewal sync.Mutex // held while a new token is requested
	mu      sync.Mutex
	value   string
}

type authenticatingKey struct{}

// GetRequestMetadata implements credentials.PerRPCCredentials. It adds the token to every request except the one that
// requests a token.
func (t *token) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	value := t.get()
	if value == "" || ctx.Value(authenticatingKey{}) != nil {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: value}, nil
}

// RequireTransportSecurity returns false: etcd can be used without TLS, as with etcd's own client.
func (t *token) RequireTransportSecurity() bool { return false }

func (t *token) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.value
}

// tokenRefused reports whether a request was refused because its token is missing or invalid.
func tokenRefused(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrInvalidAuthToken) ||
		errors.Is(err, rpctypes.ErrAuthOldRevision)
}

// authenticate replaces the refused token by a new one. It reads the password file each time, so that a corrected
// password is used.
func (c *connection) authenticate(ctx context.Context, client *clientv3.Client, refused string) error {
	c.token.renewal.Lock()
	defer c.token.renewal.Unlock()
	if c.token.get() != refused { // another goroutine has replaced it
		return nil
	}
	password, err := readSecret("passwordFile", c.location.PasswordFile)
	if err != nil {
		return err
	}
	text := string(bytes.TrimRight(password.Reveal(), "\r\n"))
	if text == "" {
		return &spec.Fault{
			Key: "passwordFile", Value: c.location.PasswordFile, Allowed: "a file that holds the password",
		}
	}
	ctx = context.WithValue(ctx, authenticatingKey{}, true)
	request := &pb.AuthenticateRequest{Name: c.location.User, Password: text}
	answer, err := pb.NewAuthClient(client.ActiveConnection()).Authenticate(ctx, request)
	if err != nil {
		return err
	}
	c.token.mu.Lock()
	defer c.token.mu.Unlock()
	c.token.value = answer.Token
	return nil
}
