// Package health hears what executables, and what they started, push of a container's health: datagrams on a socket that
// root alone can open, one health object of the contract each.
//
// It promises that nobody who sends waits, and that only objects that pass the checks are handed on. Whether the container is
// known, and what follows, is reconcile's; a datagram that is lost is made good by the next CHECK. So many wait for this
// program as net.unix.max_dgram_qlen allows (10, or what systemd made of it: 512).
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

const (
	// link is where the contract has the socket.
	link = "health.sock"
	// quiet is how long nothing more is logged of what is refused.
	quiet = time.Minute
)

// Serve hands every health that is pushed to heard, one after the other, until ctx ends. The folder of the socket stays:
// containers have it in their view.
func Serve(ctx context.Context, runDir string, heard func(*spec.Health), log *slog.Logger) (wait func() error, err error) {
	conn, err := listen(runDir)
	if err != nil {
		return nil, fmt.Errorf("health socket: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- hear(conn, heard, log) }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return func() error {
		defer stop()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("health socket: %w", err)
		}
		return nil
	}, nil
}

// listen makes the socket under another name, closes it to all but root, and renames it. The folder is closed before.
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
	if err := errors.Join(os.Chmod(temporary, 0o600), os.Rename(temporary, path), point(runDir)); err != nil {
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

func hear(conn *net.UnixConn, heard func(*spec.Health), log *slog.Logger) error {
	buffer := make([]byte, spec.HealthLimit+1)
	var logged time.Time
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		health, err := parse(buffer[:n])
		if err == nil {
			heard(health)
		} else if time.Since(logged) >= quiet {
			logged = time.Now()
			said := log
			if name, bad := spec.ParseName("interfaceName", string(health.InterfaceName)); bad == nil {
				said = log.With("container", name)
			}
			said.Warn("pushed health refused", "error", err)
		}
	}
}

// parse returns what could be read of a datagram also with an error: whose it is, for the log.
func parse(datagram []byte) (*spec.Health, error) {
	health := new(spec.Health)
	if len(datagram) > spec.HealthLimit {
		return health, fmt.Errorf("longer than %d bytes", spec.HealthLimit)
	}
	if err := json.Unmarshal(datagram, health); err != nil {
		return health, fmt.Errorf("not a health object: %w", err)
	}
	if health.InterfaceName == "" {
		return health, &spec.Fault{Key: "interfaceName", Value: "", Allowed: "the name of a container"}
	}
	return health, health.Check()
}
