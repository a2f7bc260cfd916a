package zoom

import (
	"errors"
	"io/fs"

	"github.com/go-zookeeper/zk"
)

// lost says that an operation failed because the connection did: whether it was done is not known.
func lost(err error) bool {
	return errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrSessionExpired) || errors.Is(err, zk.ErrNoServer) ||
		errors.Is(err, zk.ErrSessionMoved) || errors.Is(err, errNoSession)
}

// raced says that a node changed between looking at it and writing it.
func raced(err error) bool {
	return errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNodeExists) || errors.Is(err, zk.ErrNoNode)
}

// saying is a cause in words of its own.
type saying struct {
	text string
	err  error
}

func (s *saying) Error() string { return s.text }
func (s *saying) Unwrap() error { return s.err }

// placed is what went wrong with the node at a path of an NSDB.
type placed struct {
	endpoint, path string
	err            error
}

func (p *placed) Error() string { return p.endpoint + ": " + p.path + ": " + p.err.Error() }
func (p *placed) Unwrap() error { return p.err }

// plain says what a client's error means and what to do about it.
func plain(err error) error {
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return &saying{"no such node", fs.ErrNotExist}
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrAuthFailed), errors.Is(err, zk.ErrInvalidACL):
		return &saying{"not permitted: allowed: an ACL for everybody, as MidoNet sets it", fs.ErrPermission}
	case errors.Is(err, zk.ErrNotEmpty):
		return &saying{"it has nodes below it: allowed: a node without any", err}
	case errors.Is(err, zk.ErrConnectionClosed), errors.Is(err, zk.ErrNoServer), errors.Is(err, zk.ErrClosing):
		return &saying{"the connection was lost", err}
	case errors.Is(err, zk.ErrSessionExpired):
		return &saying{"the session has expired", err}
	case errors.Is(err, zk.ErrBadVersion):
		return &saying{"it is written by somebody else all the time", err}
	}
	return err
}
