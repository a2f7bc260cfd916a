// Package health receives pushed health: datagrams on a socket, each with one health object of the contract
// (docs/executables.md). Only root can open the socket. A process that has opened it can still send after it changed
// its user id.
//
// A datagram is accepted only for the container that its sender belongs to, and at a limited rate for each container.
// Refused and dropped datagrams are counted and logged once a minute. The package does not know which containers exist;
// the receiver of the accepted objects decides what to do with them. If a datagram is lost, the next CHECK reports the
// same health.
//
// Senders do not wait for the supervisor. The kernel queues as many datagrams as net.unix.max_dgram_qlen allows: 10 by
// default, and 512 where systemd has raised it.
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

// link is the name of the symbolic link to the socket, below the run directory. Its path is part of the contract.
const link = "health.sock"

// UserIDs returns the container that a user id belongs to, and "" for an id that belongs to no container. It returns an
// error if this cannot be determined.
type UserIDs func(uid uint32) (spec.Name, error)

// Serve calls receive for every accepted health object, one after the other, until ctx is cancelled. wait blocks until
// the server has ended, and returns its error. The directory of the socket is not removed at the end, because
// containers of version 0.1.0 have it mounted in their view of the file system.
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

// listen creates the socket under a temporary name, sets its mode to 0600, and renames it. The directory has mode 0700
// before the socket is created.
func listen(runDir string) (*net.UnixConn, error) {
	dir := filepath.Join(runDir, filepath.Base(spec.HealthFolder))
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, spec.HealthSocket)
	temporary := path + ".new"
	_ = os.Remove(temporary)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: temporary, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	err = errors.Join(enableSenderInfo(conn), os.Chmod(temporary, 0o600), os.Rename(temporary, path), makeLink(runDir))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// makeLink makes the symbolic link to the socket at the path of the contract, or replaces another one.
func makeLink(runDir string) error {
	target := filepath.Join(filepath.Base(spec.HealthFolder), spec.HealthSocket)
	path := filepath.Join(runDir, link)
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	temporary := path + ".new"
	_ = os.Remove(temporary)
	return errors.Join(os.Symlink(target, temporary), os.Rename(temporary, path))
}

// server reads the socket. It must be used by one goroutine only.
type server struct {
	socket   *socket
	userIDs  UserIDs
	receive  func(*spec.Health)
	rates    rates
	refusals *refusals
}

// run reads datagrams until the socket is closed or cannot be read. It returns the error of reading.
func (s *server) run() error {
	for {
		datagram, from, err := s.socket.read(s.refusals.due())
		switch {
		case err == nil:
			s.handle(datagram, from, time.Now())
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.refusals.report(time.Now())
		default:
			s.refusals.reportAll()
			return err
		}
	}
}

// handle accepts or refuses a datagram. It identifies the sender and applies its rate limit before it parses anything,
// so that a daemon cannot cause work by sending more. Only for a sender that may report for every container it reads
// the name first, because the limit is per container.
func (s *server) handle(datagram []byte, from sender, now time.Time) {
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

// scopeOf returns the containers that a sender may report for. It returns an error if the sender may report for none,
// or cannot be identified.
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

// claimed returns the container that a datagram names, and "" if it has no valid name.
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

// parse parses and checks a health object.
func parse(datagram []byte) (*spec.Health, error) {
	health := new(spec.Health)
	if len(datagram) > spec.HealthLimit {
		return nil, fmt.Errorf("longer than %d bytes", spec.HealthLimit)
	}
	if err := spec.DecodeOutput("not a health object", datagram, health); err != nil {
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
