package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// fault is what etcd, or the way to it, says to a request: one line with the endpoints, the operation, the key, and what
// to do about it.
type fault struct {
	where, operation, key string
	text                  string
	cause                 error
}

func (f *fault) Error() string {
	return fmt.Sprintf("etcd %s: %s %s: %s", f.where, f.operation, f.key, f.text)
}

func (f *fault) Unwrap() error { return f.cause }

// fault explains an error of a request; nil stays nil.
func (n *NSDB) fault(operation string, key native.Key, err error) error {
	var already *fault
	if err == nil || errors.As(err, &already) {
		return err
	}
	cause := rpctypes.Error(err)
	return &fault{n.endpoints(), operation, n.path(key), oneLine(n.explain(cause)), cause}
}

// explain says what is wrong and what to do about it.
func (n *NSDB) explain(err error) string {
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Sprintf("user %q or the password in %s is refused: correct the URL or the file; it is read again at every try", n.location.User, n.location.PasswordFile)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return "a user is asked for: allowed: " + Form
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		who := fmt.Sprintf("user %q", n.location.User)
		if n.location.User == "" {
			who = "who gives no user"
		}
		return fmt.Sprintf("permission denied for %s: allowed: a role that reads %s and writes %sstatus/", who, n.location.Prefix, n.location.Prefix)
	case errors.Is(err, rpctypes.ErrNoLeader):
		return "the member that was asked has no leader: a majority of the members must run and reach each other"
	case tooLarge(err):
		return "the request is too large: allowed: what etcd takes, 1.5 MiB unless its --max-request-bytes says otherwise"
	case errors.Is(err, rpctypes.ErrNoSpace):
		return "etcd has no space left: compact and defragment it, then disarm its alarm"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	switch status.Code(plain(err)) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return n.unreached(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return n.unreached(err)
	}
	return err.Error()
}

// tooLarge says whether a request is larger than etcd, or gRPC on either side, takes.
func tooLarge(err error) bool {
	return errors.Is(err, rpctypes.ErrRequestTooLarge) ||
		status.Code(plain(err)) == codes.ResourceExhausted && !errors.Is(err, rpctypes.ErrNoSpace) && !errors.Is(err, rpctypes.ErrTooManyRequests)
}

// unreached explains that no member answered, by the last thing that was heard of the connections.
func (n *NSDB) unreached(err error) string {
	text := plain(err).Error()
	if s, ok := status.FromError(plain(err)); ok {
		text = s.Message()
	}
	// gRPC wraps what a connection died of: latest balancer error: connection error: desc = "transport: …".
	if i := strings.LastIndex(text, `desc = "`); i >= 0 {
		text = strings.TrimSuffix(text[i+len(`desc = "`):], `"`)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "latest balancer error: "), "transport: ")
	check := "the endpoints, whether etcd runs there, and whether it speaks TLS (then etcds://)"
	if n.location.TLS {
		check = "the endpoints, whether etcd runs there and speaks TLS, and the files ca, cert and key"
	}
	return fmt.Sprintf("no answer in %v (%s): check %s", n.patience.try, text, check)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
