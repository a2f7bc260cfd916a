// Package libreswan runs the Libreswan daemon of one container as a transient unit of systemd, with a user ID, a
// network namespace and a mount view that are not those of the host. It queries and changes the daemon through its
// control socket.
//
// Every program that a verb runs has a time limit, a fixed environment and limited output. Only Control, which runs
// whack for an operator, has no limits. The only shell script is Libreswan's `ipsec initnss`. Exit codes are not
// sufficient (addconn returns 0 for a conn that it did not load), so the loaded conns are read back from the daemon. An
// unchanged conn is never added again, because that would delete its tunnel.
//
// Private keys are imported into the key database from files that only root can read, never by command line.
//
// The package does not compose configuration text (package render does) and does not handle addresses and routes.
package libreswan

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/oneline"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/unit"
)

// Daemon is the daemon of one container, running or not.
type Daemon struct {
	Tools     Tools
	Bus       *unit.Bus
	Owner     spec.Owner
	Dir       string // the container's state directory, absolute
	Isolation Isolation
}

// Isolation is where the daemon runs and with which privileges. Programs that talk to the daemon run in the same way,
// so a daemon that an attacker controls cannot make them reach anything that it cannot reach itself. The zero Isolation
// is that of a container that version 0.1.0 created, whose daemon runs as root.
type Isolation struct {
	User      uint32 // user and group id
	View      string // path of the mount view (package mountview)
	Namespace string // path of the network namespace
}

// Unit returns the name of the daemon's unit.
func (d *Daemon) Unit() string { return d.Owner.Name.Unit() }

// Files and directories of the daemon in the container's directory.
func (d *Daemon) Etc() string      { return filepath.Join(d.Dir, "etc") }             // its /etc
func (d *Daemon) Settings() string { return filepath.Join(d.Etc(), "pluto.conf") }    // the daemon's settings
func (d *Daemon) Setup() string    { return filepath.Join(d.Etc(), "ipsec.conf") }    // the settings and all conns
func (d *Daemon) Secrets() string  { return filepath.Join(d.Etc(), "ipsec.secrets") } // pre-shared keys
func (d *Daemon) Empty() string    { return filepath.Join(d.Etc(), "ipsec.d") }       // an empty directory
func (d *Daemon) Conns() string    { return filepath.Join(d.Dir, "conns") }           // one file for each loaded conn
func (d *Daemon) NSS() string      { return d.KeyDatabase().path() }                  // the key database
func (d *Daemon) Run() string      { return filepath.Join(d.Dir, "run") }             // the daemon's /run/pluto
func (d *Daemon) socket() string   { return filepath.Join(d.Run(), "pluto.ctl") }     // at most 107 bytes (sun_path)

// staging is the file of the conns that are being loaded. state.Directory.Tidy removes what a killed verb left behind,
// by this name.
func (d *Daemon) staging() string { return filepath.Join(d.Dir, ".new-load.conf") }

// whackLimit is the time limit of one whack call. The daemon answers within milliseconds; if its process is stopped,
// whack would wait forever.
const whackLimit = 5 * time.Second

func (d *Daemon) whack(ctx context.Context, args ...string) (string, error) {
	if d.Tools.Whack == "" {
		return "", errors.New("whack is missing on this host")
	}
	output, err := d.Isolation.run(ctx, whackLimit, d.Tools.Whack, append([]string{"--ctlsocket", d.socket()}, args...)...)
	if isNotRunning(err) {
		err = fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return output, err
}

// Status returns everything that the daemon has loaded.
func (d *Daemon) Status(ctx context.Context) (map[string]Conn, error) {
	output, err := d.whack(ctx, "--status")
	if err != nil {
		return nil, fmt.Errorf("ask pluto for its status: %w", err)
	}
	return ParseStatus(output), nil
}

// Answer is what the daemon reports: the loaded conns and the installed Child SAs, both by conn.
type Answer struct {
	Conns   map[string]Conn
	Traffic map[string]Traffic
}

// Query returns the daemon's status and its Child SAs. 4.10 reports both in one call of whack. 5.2 reports only the
// status, so a second call follows if there are Child SAs.
func (d *Daemon) Query(ctx context.Context) (Answer, error) {
	output, err := d.whack(ctx, "--status", "--trafficstatus")
	if err != nil {
		return Answer{}, fmt.Errorf("ask pluto for its status: %w", err)
	}
	answer := Answer{ParseStatus(output), ParseTraffic(output)}
	if len(answer.Traffic) > 0 || !hasChildSA(output) {
		return answer, nil
	}
	if output, err = d.whack(ctx, "--trafficstatus"); err != nil {
		return Answer{}, fmt.Errorf("ask pluto for its Child SAs: %w", err)
	}
	answer.Traffic = ParseTraffic(output)
	return answer, nil
}

// RereadSecrets makes the daemon read its keys again. Established tunnels are not affected.
func (d *Daemon) RereadSecrets(ctx context.Context) error {
	_, err := d.whack(ctx, "--rereadsecrets")
	return wrapf(err, "make pluto read its secrets")
}

// Listen makes the daemon read the interface addresses and its keys again.
func (d *Daemon) Listen(ctx context.Context) error {
	_, err := d.whack(ctx, "--listen")
	return wrapf(err, "make pluto look at its addresses")
}

// flushRoots makes a running daemon read its root CAs again. The daemon caches them as long as it uses them at least
// every five minutes, and 4.10 has no other command to flush the cache. From 5.0 on --rereadcerts does it, but also
// reloads all conns.
func (d *Daemon) flushRoots(ctx context.Context) {
	_, _ = d.whack(ctx, "--impair", "trigger:FREE_ROOT_CERTS")
}

// Delete deletes conns in the daemon. It is no error if the daemon does not have a conn.
func (d *Daemon) Delete(ctx context.Context, conns ...string) error {
	failed := map[string]error{}
	for _, conn := range conns {
		_, err := d.whack(ctx, "--name", conn, "--delete")
		if err != nil {
			failed[conn] = fmt.Errorf("delete conn %s: %w", conn, err)
		}
		if err != nil && !plutoAnswered(err) {
			return failed[conn]
		}
	}
	if len(failed) == 0 {
		return nil
	}
	// The exit status of whack is the code of some message that pluto logged during the request. So a delete that
	// succeeded can return an error (5.2: RC_INTERNAL_ERROR after a failed expectation), and the status decides.
	left, err := d.Status(ctx)
	if err != nil {
		return err
	}
	for _, conn := range conns {
		if _, present := left[conn]; present && failed[conn] != nil {
			return failed[conn]
		}
	}
	return nil
}

func wrapf(err error, operation string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// oneLine limits a message of Libreswan's programs, of which several can be in one error.
func oneLine(s string) string { return oneline.Of(s, 300) }
