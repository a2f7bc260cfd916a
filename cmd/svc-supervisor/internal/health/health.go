// Package health receives pushed health: datagrams on a socket, one health object of the contract each
// (docs/executables.md). Only root can open the socket; a process that opened it may send after it changed its user id.
//
// A datagram is accepted for the sender's own container only, and at a limited rate for each container. What is
// refused or dropped is counted and logged once a minute. The package does not know which containers exist; the
// receiver of the accepted objects decides what follows. The next CHECK replaces a datagram that is lost.
//
// Senders do not wait for the supervisor. The kernel queues as many datagrams as net.unix.max_dgram_qlen allows
// (10, or what systemd made of it: 512).
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// link is the path of the socket in the contract, below the run directory.
const link = "health.sock"

// UserIDs returns the container that a user id belongs to, and "" for an id that belongs to no container. An error means that
// this cannot be determined.
type UserIDs func(uid uint32) (spec.Name, error)

// Serve passes every health object that is accepted to receive, one after the other, until ctx ends. The directory
// of the socket stays: containers of version 0.1.0 have it in their view of the file system.
func Serve(ctx context.Context, runDir string, receive func(*spec.Health), userIDs UserIDs, log *slog.Logger) (
	wait func() error, err error,
) {
	conn, err := listen(runDir)
	if err != nil {
		return nil, fmt.Errorf("health socket: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		s := server{socket: newSocket(conn), userIDs: userIDs, receive: receive, refusals: newRefusals(log)}
		done <- s.run()
	}()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return func() error {
		defer stop()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("health socket: %w", err)
		}
		return nil
	}, nil
}

// listen makes the socket under another name, restricts it to root, and renames it. The directory is restricted
// before.
func listen(runDir string) (*net.UnixConn, error) {
	folder := filepath.Join(runDir, filepath.Base(spec.HealthFolder))
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, spec.HealthSocket)
	temporary := path + ".new"
	_ = os.Remove(temporary)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: temporary, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	err = errors.Join(askForSender(conn), os.Chmod(temporary, 0o600), os.Rename(temporary, path), point(runDir))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// point puts a link where the contract has the socket.
func point(runDir string) error {
	target := filepath.Join(filepath.Base(spec.HealthFolder), spec.HealthSocket)
	path := filepath.Join(runDir, link)
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	temporary := path + ".new"
	_ = os.Remove(temporary)
	return errors.Join(os.Symlink(target, temporary), os.Rename(temporary, path))
}

// server reads the socket. One goroutine uses it.
type server struct {
	socket   *socket
	userIDs  UserIDs
	receive  func(*spec.Health)
	rates    rates
	refusals *refusals
}

// run returns when the socket is closed, or cannot be read any more.
func (s *server) run() error {
	for {
		datagram, from, err := s.socket.read(s.refusals.due())
		switch {
		case err == nil:
			s.take(datagram, from, time.Now())
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.refusals.report(time.Now())
		default:
			s.refusals.reportAll()
			return err
		}
	}
}

// take accepts a datagram or refuses it. Nothing of the datagram of a container's daemon is parsed before the
// sender is known and within its rate. Of a sender that may report for every container the name is needed first.
func (s *server) take(datagram []byte, from sender, now time.Time) {
	allowed, err := s.scopeOf(from)
	if err != nil {
		s.refusals.add(refusal{message: refused}, "", err, now)
		return
	}
	name := allowed.name
	if allowed.every {
		name = claimed(datagram)
	}
	if !s.rates.take(name, now) {
		s.refusals.add(refusal{allowed.name, dropped}, name, errRate, now)
		return
	}
	health, err := parse(datagram)
	if err == nil && !allowed.includes(health.InterfaceName) {
		err = fmt.Errorf("the sender belongs to container %s and reports for %s", allowed.name, health.InterfaceName)
	}
	if err != nil {
		s.refusals.add(refusal{allowed.name, refused}, name, err, now)
		return
	}
	s.receive(health)
}

// scopeOf returns the containers that a sender may report for.
func (s *server) scopeOf(from sender) (scope, error) {
	p, err := findProcess(from.pid)
	if err != nil {
		return scope{}, err
	}
	owner, err := s.userIDs(from.uid)
	if err != nil {
		return scope{}, fmt.Errorf("container of user id %d: %w", from.uid, err)
	}
	return decide(from, owner, p)
}

// claimed returns the container that a datagram names, and "" if no valid name can be read.
func claimed(datagram []byte) spec.Name {
	var object struct {
		InterfaceName string `json:"interfaceName"`
	}
	if json.Unmarshal(datagram, &object) != nil {
		return ""
	}
	name, err := spec.ParseName("interfaceName", object.InterfaceName)
	if err != nil {
		return ""
	}
	return name
}

func parse(datagram []byte) (*spec.Health, error) {
	health := new(spec.Health)
	if len(datagram) > spec.HealthLimit {
		return nil, fmt.Errorf("longer than %d bytes", spec.HealthLimit)
	}
	if err := spec.Output("not a health object", datagram, health); err != nil {
		return nil, err
	}
	if health.InterfaceName == "" {
		return nil, &spec.Fault{Key: "interfaceName", Value: "", Allowed: "the name of a container"}
	}
	if err := health.Check(); err != nil {
		return nil, err
	}
	return health, nil
}
