package zoom

import (
	"errors"
	"io/fs"

	"github.com/go-zookeeper/zk"
)

// connectionLost reports whether an operation failed because the connection was lost. The server may have executed it.
func connectionLost(err error) bool {
	return errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrSessionExpired) ||
		errors.Is(err, zk.ErrNoServer) || errors.Is(err, zk.ErrSessionMoved) || errors.Is(err, errNoSession)
}

// isConflict reports whether a write failed because the node has changed since it was read.
func isConflict(err error) bool {
	return errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNodeExists) || errors.Is(err, zk.ErrNoNode)
}

// messageError is an error with its own text that wraps a cause.
type messageError struct {
	text string
	err  error
}

func (s *messageError) Error() string { return s.text }
func (s *messageError) Unwrap() error { return s.err }

// nodeError is an error of the node at a path of an NSDB.
type nodeError struct {
	endpoint, path string
	err            error
}

func (p *nodeError) Error() string { return p.endpoint + ": " + p.path + ": " + p.err.Error() }
func (p *nodeError) Unwrap() error { return p.err }

// describe replaces an error of the client by one that explains it and names what is allowed.
func describe(err error) error {
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return &messageError{"no such node", fs.ErrNotExist}
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrAuthFailed), errors.Is(err, zk.ErrInvalidACL):
		return &messageError{"not permitted: allowed: an ACL for everybody, as MidoNet sets it", fs.ErrPermission}
	case errors.Is(err, zk.ErrNotEmpty):
		return &messageError{"it has nodes below it: allowed: a node without any", err}
	case errors.Is(err, zk.ErrConnectionClosed), errors.Is(err, zk.ErrNoServer), errors.Is(err, zk.ErrClosing):
		return &messageError{"the connection was lost", err}
	case errors.Is(err, zk.ErrSessionExpired):
		return &messageError{"the session has expired", err}
	case errors.Is(err, zk.ErrBadVersion):
		return &messageError{"another client changed it during every attempt", err}
	}
	return err
}
