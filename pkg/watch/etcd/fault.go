package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// textLimit and grpcTextLimit are the largest numbers of bytes of an error's cause, and of gRPC's text in it.
const textLimit, grpcTextLimit = 1000, 300

// fault is the error of a request. Its text is one line with the endpoints, the operation, the key, the cause, and what
// the user can do.
type fault struct {
	where, operation, key string
	text                  string
	cause                 error
}

func (f *fault) Error() string {
	return fmt.Sprintf("etcd %s: %s %s: %s", f.where, f.operation, f.key, f.text)
}

func (f *fault) Unwrap() error { return f.cause }

// fault converts the error of a request to a *fault. It returns nil for nil, and a *fault unchanged.
func (c *connection) fault(operation string, key native.Key, err error) error {
	var already *fault
	if err == nil || errors.As(err, &already) {
		return err
	}
	cause := rpctypes.Error(err)
	return &fault{c.endpoints(), operation, c.path(key), oneline.Of(c.describe(cause), textLimit), cause}
}

// describe returns the cause of an error in words, with what the user can do.
func (c *connection) describe(err error) string {
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Sprintf("user %q or the password in %s is refused: "+
			"correct the URL or the file, which is read again at every attempt", c.location.User,
			c.location.PasswordFile)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return "etcd requires a user: allowed: " + Form
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		who := fmt.Sprintf("user %q", c.location.User)
		if c.location.User == "" {
			who = "a client without a user"
		}
		return fmt.Sprintf("permission denied for %s: allowed: a role that reads %s and writes %sstatus/",
			who, c.location.Prefix, c.location.Prefix)
	case errors.Is(err, rpctypes.ErrNoLeader):
		return "the member has no leader: a majority of the members must run and reach each other"
	case tooLarge(err):
		return "the request is too large: allowed: etcd's --max-request-bytes, by default 1.5 MiB"
	case errors.Is(err, rpctypes.ErrNoSpace):
		return "etcd has no space left: compact and defragment it, then disarm its alarm"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	switch status.Code(grpcError(err)) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return c.unreached(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return c.unreached(err)
	}
	return err.Error()
}

// tooLarge reports whether a request exceeds the limit of etcd, or of gRPC on either side.
func tooLarge(err error) bool {
	return errors.Is(err, rpctypes.ErrRequestTooLarge) || status.Code(grpcError(err)) == codes.ResourceExhausted &&
		!errors.Is(err, rpctypes.ErrNoSpace) && !errors.Is(err, rpctypes.ErrTooManyRequests)
}

// unreached describes an error of a request that no member answered. The text includes the last connection error.
func (c *connection) unreached(err error) string {
	text := grpcError(err).Error()
	if s, ok := status.FromError(grpcError(err)); ok {
		text = s.Message()
	}
	// gRPC wraps the connection error: latest balancer error: connection error: desc = "transport: …".
	if i := strings.LastIndex(text, `desc = "`); i >= 0 {
		text = strings.TrimSuffix(text[i+len(`desc = "`):], `"`)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "latest balancer error: "), "transport: ")
	check := "the endpoints, whether etcd runs there, and whether it speaks TLS (then etcds://)"
	if c.location.TLS {
		check = "the endpoints, whether etcd runs there and speaks TLS, and the files ca, cert and key"
	}
	return fmt.Sprintf("no answer in %v (%s): check %s", c.timeouts.request, oneline.Of(text, grpcTextLimit), check)
}
