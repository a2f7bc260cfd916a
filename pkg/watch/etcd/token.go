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

// token is what etcd gives for a user and a password, and takes with every request. One that was not used for a while (5
// minutes, by etcd's usual setting) is not taken any more.
//
// It is not left to etcd's client: that asks for a new token with the old one in hand, which etcd 3.4 refuses for the old
// one's sake, and so for ever; and it asks for one with every stream.
type token struct {
	asking sync.Mutex // held while a new one is asked for
	mu     sync.Mutex
	value  string
}

type askingKey struct{}

// GetRequestMetadata makes the token go with every request but the one that asks for it.
func (t *token) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	value := t.get()
	if value == "" || ctx.Value(askingKey{}) != nil {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: value}, nil
}

// RequireTransportSecurity allows for etcd without TLS, as its own client does.
func (t *token) RequireTransportSecurity() bool { return false }

func (t *token) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.value
}

// tokenRefused says whether a request was refused for want of a token that is valid.
func tokenRefused(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision)
}

// authenticate has another token than the one that was refused. The password is read from its file each time, so that one
// that was corrected there is used.
func (n *NSDB) authenticate(ctx context.Context, client *clientv3.Client, refused string) error {
	n.token.asking.Lock()
	defer n.token.asking.Unlock()
	if n.token.get() != refused { // somebody else was here
		return nil
	}
	password, err := readSecret("passwordFile", n.location.PasswordFile)
	if err != nil {
		return err
	}
	text := string(bytes.TrimRight(password.Reveal(), "\r\n"))
	if text == "" {
		return &spec.Fault{Key: "passwordFile", Value: n.location.PasswordFile, Allowed: "a file that holds the password"}
	}
	ctx = context.WithValue(ctx, askingKey{}, true)
	answer, err := pb.NewAuthClient(client.ActiveConnection()).Authenticate(ctx, &pb.AuthenticateRequest{Name: n.location.User, Password: text})
	if err != nil {
		return err
	}
	n.token.mu.Lock()
	defer n.token.mu.Unlock()
	n.token.value = answer.Token
	return nil
}
